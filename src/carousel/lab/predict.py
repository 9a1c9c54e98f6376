"""What a saved model makes of new data."""

import argparse
import csv
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .module import SequenceModule
from .records import Unreadable
from .saved import load, settle
from .tasks import Batch, Task


def sequences(path: str | Path, task: Task) -> Batch:
    """New data, as inputs of a task's models; of targets it has none.

    Args:
        path: of a .csv of one sequence, a line for each step and a column for each feature, under names or not; or of
            an .npy or .npz with one sequence (T, F) or several (B, T, F), the latter as `input`, and as `lengths` (B,),
            if they are padded, how many steps of each are real. Symbols, as whole numbers, are without the last
            dimension. All in the task's own units.
        task: its `read` makes inputs of them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is none of these, or of other features than the task's.
    """
    path, lengths = Path(path), None
    try:
        if path.suffix == ".csv":
            with path.open(newline="") as file:
                rows = [row for row in csv.reader(file) if row]
            data = np.array(rows[_is_header(rows[0]) :] if rows else [], float)
            data = data[:, 0] if task.symbols and data.shape[1:] == (1,) else data
        elif path.suffix == ".npy":
            data = np.load(path)
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                data, lengths = arrays["input"], arrays.get("lengths")
        else:
            raise ValueError("a name that ends in .csv, .npy or .npz is needed")
        return _batch(torch.from_numpy(data), lengths, task)
    except (ValueError, TypeError, KeyError, EOFError) as error:
        raise ValueError(f"{path}: {error}") from error


def _is_header(row: list[str]) -> bool:
    try:
        list(map(float, row))
    except ValueError:
        return True
    return False


def _batch(data: Tensor, lengths: np.ndarray | None, task: Task) -> Batch:
    ranks = (1, 2) if task.symbols else (2, 3)
    if data.dim() not in ranks or 0 in data.shape or (not task.symbols and data.size(-1) != task.input_size):
        shape = "(T,) or (B, T)" if task.symbols else f"(T, {task.input_size}) or (B, T, {task.input_size})"
        raise ValueError(f"sequences should have the shape {shape}, got {tuple(data.shape)}")
    data = data if data.dim() == ranks[1] else data.unsqueeze(0)
    if not data.isfinite().all():
        raise ValueError("not all values are finite numbers")
    if task.symbols:
        if (data != data.long()).any() or not (data.min() >= 0 and data.max() < task.input_size):
            raise ValueError(f"symbols should be whole numbers from 0 to {task.input_size - 1}")
        data = data.long()
    read = task.read(data)
    if lengths is None:
        return Batch(read, torch.empty(0))
    real = torch.as_tensor(lengths).long()
    if real.shape != data.shape[:1] or not (real.min() >= 1 and real.max() <= data.size(1)):
        raise ValueError(f"lengths should be {len(data)} numbers from 1 to {data.size(1)}")
    if len(read[0]) != data.size(1):
        raise ValueError("lengths are not for a task that reads a part of each sequence")
    return Batch(read, torch.empty(0), real)


@torch.no_grad()
def predictions(module: SequenceModule, batch: Batch) -> tuple[list[str], list[list]]:
    """Names of columns, and a row for each sequence, or each step of it where the task has a target at every step."""
    task, made = module.task, module(batch.input, batch.lengths)
    where = [[k] for k in range(len(made))]
    if task.every_step:
        lengths = [made.size(1)] * len(made) if batch.lengths is None else batch.lengths.tolist()
        where = [[k, step] for k, length in enumerate(lengths) for step in range(length)]
        made = torch.cat([row[:length] for row, length in zip(made, lengths, strict=True)])
    answers = task.answer(made)
    answers = answers.tolist() if isinstance(answers, Tensor) else answers
    rows = [[*place, *(a if isinstance(a, list) else [a])] for place, a in zip(where, answers, strict=True)]
    num = len(rows[0]) - len(where[0])
    names = ["prediction"] if num == 1 else [f"prediction_{k + 1}" for k in range(num)]
    return [*["sequence", "step"][: len(where[0])], *names], rows


def main() -> None:
    """Predictions of a saved model on new data, in the task's own units, as CSV."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run", type=Path, help="the run's folder, e.g. outputs/runs/<one>")
    parser.add_argument("file", type=Path, help="a .csv, .npy or .npz with sequences")
    parser.add_argument("--checkpoint", choices=("best", "last"), help="by default the one that was tested")
    parser.add_argument("--trust", metavar="PATH", action="append", default=[], help="of a class of yours, to import")
    asked = parser.parse_args()
    sys.path.append(os.getcwd())  # where cells and tasks of one's own are
    try:
        module = load(asked.run, asked.checkpoint, asked.trust)
        settle(module.configuration["threads"])
        names, rows = predictions(module, sequences(asked.file, module.task))
    except (OSError, ValueError, Unreadable) as error:
        sys.exit(f"error: {error}")
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(names)
    table.writerows(rows)
