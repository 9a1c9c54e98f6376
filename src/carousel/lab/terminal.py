"""What the terminal shows of many runs."""

import pandas as pd
from rich.markup import escape
from rich.table import Table

from . import scores
from .records import by_goal, names
from .style import ordered


def table(results: pd.DataFrame) -> Table:
    """One row a setting, one column a length: the training steps until solved, or the loss reached; of a task that does
    not say what counts as solved the test loss."""
    lengths, several = sorted(results["seq_len"].unique()), results["task"].nunique() > 1
    grid = Table()
    grid.add_column("task and setting" if several else "setting", overflow="fold")
    for length in lengths:
        grid.add_column(f"T={length}" if length else "", justify="right", no_wrap=True)
    for (task, label), runs in ordered(results.groupby(["task", "label"])):
        cells = [[_cell(run) for _, run in runs[runs["seq_len"] == length].iterrows()] for length in lengths]
        grid.add_row(escape(f"{task}: {label}" if several else label), *("\n".join(cell) for cell in cells))
    return grid


def legend(results: pd.DataFrame) -> list[str]:
    """What the table shows, a line for each kind of task in it."""
    lines = []
    goal, rest = by_goal(results)
    if len(goal):
        known = names(
            f"{loss:.3g} ({task})" for task, loss in goal.groupby("task")["baseline_loss"].first().dropna().items()
        )
        lines.append(f"training steps until solved, or ✗ and the final validation loss; the baseline's is {known}")
    for task, runs in rest.groupby("task"):
        known = names(f"{score['loss']:.4g} ({name})" for name, score in scores.baselines(runs).items())
        lines.append(f"test loss on {task}" + f"; the baselines' are {known}" * bool(known))
    return lines


def _cell(run: pd.Series) -> str:
    if run["status"] != "finished":
        return f"[red]{run['status']}[/]"
    if pd.isna(run["solved"]):
        return f"{run['test/loss']:.4g}"
    if run["solved"]:
        return "[green]solved[/]" if pd.isna(run["steps_to_solve"]) else f"[green]{run['steps_to_solve']:.0f}[/]"
    return f"✗ {run['val/loss']:.3g}"
