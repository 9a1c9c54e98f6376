"""What our layers cost beside torch's: every contestant in one process, in turns, as ratios of medians."""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

import carousel
from carousel import gradients
from carousel.cells import MGUCell
from carousel.gradients import theory

from . import bench_cells, bench_gpu, bench_guide, bench_parts, bench_short
from .bench_gpu import seconds
from .bench_short import forward, training_step
from .records import write
from .style import STYLES

SHAPES = ((32, 100, 2, 128), (20, 1000, 2, 128), (64, 50, 256, 512), (8, 1000, 64, 256), (32, 200, 2, 32))
SHAPES += ((1, 1000, 64, 256),)
"""B, T, I, H."""


class OwnCell(carousel.Cell):
    """A cell that nobody has written a kernel for: an LSTM that forgets what it writes over."""

    gates = ("i", "g", "o")
    states = ("h", "c")

    def update(self, wx, uh, state):
        _, c = state
        i, g, o = (wx + uh).chunk(3, -1)
        i, g, o = i.sigmoid(), nn.functional.softsign(g), o.sigmoid()
        c = (1 - i * g.abs()) * c + i * g
        return (o * c.tanh(), c), {"i": i, "g": g, "o": o}


LAYERS: dict[str, tuple[Callable[..., nn.Module], str, int]] = {
    "nn.LSTM": (nn.LSTM, "nn.LSTM", 4),
    "LSTM": (carousel.LSTM, "nn.LSTM", 4),
    "nn.GRU": (nn.GRU, "nn.GRU", 3),
    "GRU": (carousel.GRU, "nn.GRU", 3),
    "nn.RNN": (nn.RNN, "nn.RNN", 1),
    "RNN": (carousel.RNN, "nn.RNN", 1),
    "LSTM, peephole": (lambda *a, **k: carousel.LSTM(*a, peephole=True, **k), "nn.LSTM", 4),
    "MGU": (lambda *a, **k: carousel.Recurrent(MGUCell, *a, **k), "nn.LSTM", 2),
    "a cell of one's own": (lambda *a, **k: carousel.Recurrent(OwnCell, *a, **k), "nn.LSTM", 3),
}
"""The layer, the one of torch's that it is held against, and how many products of size H a step has."""


def watched(layer: carousel.Recurrent, x: Tensor, weights: Tensor) -> None:
    """A training step that measures the gradient's way back as well."""
    with gradients.watch(layer):
        training_step(layer, x, weights)


def last_step(layer: nn.Module, x: Tensor, weights: Tensor) -> Tensor:
    return (layer(x)[0][-1] * weights[-1]).sum()


MEASURED = (32, 100, 2, 64)
MEASURES: dict[str, Callable[[carousel.Recurrent, Tensor, Tensor], object]] = {
    "a training step": training_step,
    "a training step, watched": watched,
    "flow": lambda layer, x, w: gradients.flow(layer, lambda: last_step(layer, x, w)),
    "paths": lambda layer, x, w: gradients.paths(layer, lambda: last_step(layer, x, w)),
    "gates": lambda layer, x, w: gradients.gates(layer, lambda: layer(x)),
    "lyapunov, the largest": lambda layer, x, w: gradients.lyapunov(layer, lambda: layer(x), 1),
    "lyapunov, all 128, of 4 sequences": lambda layer, x, w: gradients.lyapunov(layer, lambda: layer(x[:, :4])),
    "largest_singular_values, 1": lambda layer, x, w: gradients.largest_singular_values(layer, lambda: layer(x)),
    "jacobian, 10 lags, of 4 sequences": lambda layer, x, w: gradients.jacobian(layer, lambda: layer(x[:, :4]), 10),
    "theory.linearise, 100 lags": lambda layer, x, w: theory.linearise(layer.cell()).curves(100),
}
"""Each of an LSTM's layer, at the shape `MEASURED`."""


def measure_measures(repeats: int) -> pd.DataFrame:
    """What each measure takes, in ms and in training steps: medians, in turns, on one thread of a CPU."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batch, steps, inputs, hidden = MEASURED
    layer, x = carousel.LSTM(inputs, hidden), torch.randn(steps, batch, inputs)
    weights = torch.randn(steps, batch, hidden)
    times: dict[str, list[float]] = {name: [] for name in MEASURES}
    for turn in range(repeats + 1):
        for name, work in MEASURES.items():
            t = seconds(lambda work=work: work(layer, x, weights), "cpu")
            if turn > 0:
                times[name].append(t)
    table = pd.DataFrame({"ms": {name: 1e3 * statistics.median(taken) for name, taken in times.items()}})
    return table.assign(training_steps=table.ms / table.ms["a training step"]).rename_axis("measure").reset_index()


def matmul_peak(device: str) -> float:
    """Multiply-adds per second of torch.mm, the best of many."""
    a, b = torch.randn(2, 2048, 2048, device=device).unbind()
    return 2048**3 / min(seconds(lambda: torch.mm(a, b), device) for _ in range(20))


def measure(shape: tuple[int, int, int, int], repeats: int, device: str) -> list[dict]:
    """Median times on one shape: all layers in turns, `repeats` times, after one turn to warm up."""
    batch, steps, inputs, hidden = shape
    torch.manual_seed(0)
    x = torch.randn(steps, batch, inputs, device=device)
    weights = torch.randn(steps, batch, hidden, device=device)
    layers = {name: make(inputs, hidden, device=device) for name, (make, *_) in LAYERS.items()}
    works = [(name, work) for name in layers for work in (forward, training_step)] + [("LSTM", watched)]
    times: dict = {key: [] for key in works}
    for turn in range(repeats + 1):
        for (name, work), taken in times.items():
            t = seconds(lambda name=name, work=work: work(layers[name], x, weights), device)
            if turn > 0:
                taken.append(t)
    median = {key: statistics.median(taken) for key, taken in times.items()}
    peak = matmul_peak(device)
    rows = []
    for name, work in works:
        _, rival, products = LAYERS[name]
        count = products * batch * steps * hidden * (inputs + hidden) * (1 if work is forward else 3)
        share = products / LAYERS[rival][2]  # of the rival's multiply-adds
        remembered = device == "cpu" and work is training_step and name.endswith("LSTM")
        memory = afresh(f"grown({name!r}, {shape})") if remembered else None
        rows.append(
            {
                **dict(zip("BTIH", shape, strict=True)),
                "threads": torch.get_num_threads(),
                "layer": name,
                "work": work.__name__,
                "ms": 1e3 * median[name, work],
                "rival": rival,
                "speed": share * median[rival, forward if work is forward else training_step] / median[name, work],
                "of_matmul_peak": count / median[name, work] / peak,
                "peak_mib": memory,
            }
        )
    return rows


def grown(name: str, shape: tuple[int, int, int, int]) -> float:
    """MiB by which this process grows at most in its first training step of that size; nan where Linux's /proc is not.
    Kernels and torch's machinery are loaded before, by a step of another size, too long to be left to torch's."""
    before = 0
    for batch, steps, inputs, hidden in ((1, 60, *shape[2:]), shape):
        layer = LAYERS[name][0](inputs, hidden)
        x, weights = torch.randn(steps, batch, inputs), torch.randn(steps, batch, hidden)
        if Path("/proc/self/clear_refs").exists():
            Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
            before = _status("VmRSS")
            training_step(layer, x, weights)
    return (_status("VmHWM") - before) / 1024 if Path("/proc/self/clear_refs").exists() else float("nan")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def first_result() -> float:
    """Seconds to the first result of a new cell, to trace, emit, and build or load. The modules for that are loaded
    before: the engine's, and torch's machinery of its own, which any optimizer loads too."""
    import torch._dynamo

    import carousel.engine.fused.plans

    x, layer = torch.randn(100, 32, 2), carousel.Recurrent(OwnCell, 2, 128, backend="fused")
    return seconds(lambda: layer(x), "cpu")


def afresh(call: str, **environment: str) -> float:
    """What a call of a function in here returns in a process of its own."""
    threads = f"torch.set_num_threads({torch.get_num_threads()})"
    program = [sys.executable, "-c", f"import torch; from carousel.lab.bench import *; {threads}; print({call})"]
    done = subprocess.run(program, env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def show(rows: pd.DataFrame, threads: int, work: str) -> Table:
    names = [name for name in LAYERS if not name.startswith("nn.")]
    grid = Table(title=f"{threads} thread{'s' * (threads > 1)}, {work.replace('_', ' ')}: speed beside torch.nn")
    grid.add_column("B, T, I, H", no_wrap=True)
    for name in names:
        grid.add_column(name, justify="right")
    rows = rows[(rows.threads == threads) & (rows.work == work)]
    for shape, group in rows.groupby([*"BTIH"], sort=False):
        speed = group.set_index("layer").speed
        grid.add_row(", ".join(map(str, shape)), *(f"{speed[name]:.2f}" for name in names))
    means = rows.groupby("layer").speed.agg(statistics.geometric_mean)
    grid.add_row("[bold]geometric mean[/]", *(f"{means[name]:.2f}" for name in names))
    return grid


def costs(rows: pd.DataFrame) -> Table:
    grid = Table(title="LSTM, training step")
    headings = ("threads", "B, T, I, H", "of mm's peak", "peak memory, MiB", "of nn.LSTM's", "watched")
    for heading in headings:
        grid.add_column(heading, no_wrap=heading.startswith("B"), justify="right")
    for (threads, *shape), group in rows.groupby(["threads", *"BTIH"], sort=False):
        at = group.set_index(["layer", "work"])
        ours, theirs = at.loc[("LSTM", "training_step")], at.loc[("nn.LSTM", "training_step")]
        watch = at.ms["LSTM", "watched"] / ours.ms - 1
        memory = [f"{ours.peak_mib:.0f}", f"{ours.peak_mib / theirs.peak_mib:.2f}"]
        grid.add_row(str(threads), ", ".join(map(str, shape)), f"{ours.of_matmul_peak:.0%}", *memory, f"{watch:+.1%}")
    return grid


def figure(rows: pd.DataFrame) -> Figure:
    """What a training step of each cell costs: its time over that of our RNN, at each shape, on one thread."""
    threads = rows.threads.min()
    rows = rows[(rows.threads == threads) & (rows.work == "training_step")]
    names = ["RNN", "GRU", "LSTM", "nn.RNN", "nn.GRU", "nn.LSTM"]
    times = rows.pivot_table(index=[*"BTIH"], columns="layer", values="ms", sort=False)[names]
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    ax = figure.subplots()
    for k, name in enumerate(names):
        model = name.lower().replace(".", "_")
        at = [shape + 0.13 * (k - 2.5) for shape in range(len(times))]
        hatch = "//" if name.startswith("nn.") else ""
        bars = ax.bar(at, times[name] / times["RNN"], 0.12, label=name, color=STYLES[model]["color"], hatch=hatch)
        for bar in bars:
            bar.set_edgecolor("white")
    ax.axhline(1, color="0.5", linewidth=0.8)
    ax.set_xticks(range(len(times)), [", ".join(map(str, shape)) for shape in times.index])
    ax.set(xlabel="B, T, I, H", ylabel="time over our RNN's", yscale="log", title=f"A training step, {threads} thread")
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.grid(axis="y", alpha=0.25)
    ax.legend(frameon=False, ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return figure


def _other(args: argparse.Namespace, console: Console) -> tuple[pd.DataFrame, Table] | None:
    """The measurement that is asked for in place of the layers', as rows and as they are shown."""
    threads = list(dict.fromkeys(args.threads))
    if args.measures:
        table = measure_measures(args.repeats)
        grid = Table(title=f"LSTM, B, T, I, H = {', '.join(map(str, MEASURED))}, one thread")
        for heading in ("measure", "ms", "training steps"):
            grid.add_column(heading, justify="left" if heading == "measure" else "right")
        for row in table.itertuples():
            grid.add_row(row.measure, f"{row.ms:.1f}", f"{row.training_steps:.1f}")
        return table, grid
    if args.cells or args.rivals:
        pairs = bench_cells.of_cells() if args.cells else bench_cells.rivals()
        parts = [bench_cells.measure(pairs, count, args.repeats, console) for count in threads]
        table = pd.concat(parts, ignore_index=True)
        return table, bench_cells.show(table, "beside its own loop" if args.cells else "beside what others made of it")
    if args.short:
        table = bench_short.measure(OwnCell, threads, args.repeats, console)
        return table, bench_short.show(table)
    if args.parts:
        table = bench_parts.measure(args.repeats, console)
        return table, bench_parts.show(table)
    if args.guide:
        table = bench_guide.measure(args.repeats, console)
        return table, bench_guide.show(table)
    if args.gpu:
        table = bench_gpu.measure(args.repeats, "cuda", console)
        return table, bench_gpu.show(table)
    return None


def main() -> None:
    """Time forward and training step of our layers beside torch's, over six shapes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()], help="%(default)s")
    parser.add_argument("--repeats", type=int, default=9, help="turns of which the median is taken (%(default)s)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--csv", type=Path, help="also write the rows there, and a figure beside it")
    parser.add_argument("--measures", action="store_true", help="time the measures of carousel.gradients instead")
    parser.add_argument("--cells", action="store_true", help="time every cell beside its own loop instead")
    parser.add_argument(
        "--rivals", action="store_true", help="time cells beside other packages' instead (extra: rivals)"
    )
    parser.add_argument("--guide", action="store_true", help="time the cells of experiment=guide on its tasks instead")
    parser.add_argument("--short", action="store_true", help="time sequences of 1 to 25 steps instead")
    parser.add_argument("--parts", action="store_true", help="time parts of a call, and a busy machine, instead")
    parser.add_argument("--gpu", action="store_true", help="time Triton's kernels on a GPU instead")
    args = parser.parse_args()
    if min(args.threads) < 1 or args.repeats < 1:
        parser.error("--threads and --repeats must be at least 1")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no GPU here; allowed: cpu")
    if args.gpu and not torch.cuda.is_available():
        parser.error("--gpu: there is no GPU here")
    console = Console()
    if other := _other(args, console):
        table, grid = other
        console.print(grid)
        if args.csv:
            write(args.csv, lambda part: table.to_csv(part, index=False, float_format="%.4g"))
        return
    jobs = [(threads, shape) for threads in dict.fromkeys(args.threads) for shape in SHAPES]
    rows = []
    for threads, shape in track(jobs, "timing", console=console, disable=not console.is_terminal, transient=True):
        torch.set_num_threads(threads)
        rows += measure(shape, args.repeats, args.device)
    table = pd.DataFrame(rows)
    for threads in dict.fromkeys(args.threads):
        for work in ("training_step", "forward"):
            console.print(show(table, threads, work))
    console.print(costs(table))
    cpu = f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}"
    where = torch.cuda.get_device_name() if args.device == "cuda" else cpu
    console.print(f"{where}, torch {torch.__version__}, float32, medians of {args.repeats}", highlight=False)
    if args.device == "cpu":
        with tempfile.TemporaryDirectory() as cache:
            cold, warm = (afresh("first_result()", XDG_CACHE_HOME=cache) for _ in range(2))
        console.print(f"first result of a new cell: {cold:.2f} s, {1e3 * warm:.0f} ms from the cache", highlight=False)
    if args.csv:
        write(args.csv, lambda part: table.to_csv(part, index=False, float_format="%.4g"))
        write(args.csv.with_suffix(".png"), lambda part: figure(table).savefig(part, dpi=150, format="png"))
