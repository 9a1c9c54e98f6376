"""What Triton's kernels cost on a GPU, beside torch's LSTM, and the same cell's loop, compiled or as a CUDA graph."""

import itertools
import statistics
import time
from collections.abc import Callable
from functools import partial

import pandas as pd
import torch
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

import carousel
from carousel import cells

from .bench_short import WORKS

STEPS, BATCHES, WIDTHS = (128, 1024), (1, 16, 64, 256), (64, 128, 256, 512, 768, 1024)
"""T, B, and H, which is the number of features as well."""
CELLS: dict[str, Callable[..., carousel.Recurrent]] = {
    "LSTM": carousel.LSTM,
    "GRU": carousel.GRU,
    "LSTM, peephole": partial(carousel.LSTM, peephole=True),
    "sLSTM": partial(carousel.Recurrent, cells.SLSTMCell),
    "minGRU": partial(carousel.Recurrent, cells.MinGRUCell),
    "LEM": partial(carousel.Recurrent, cells.LEMCell),
}


class Compiled(nn.Module):
    """The loop around a step that torch.compile has compiled, which of a whole loop takes the square of its steps."""

    def __init__(self, cell: carousel.Cell) -> None:
        super().__init__()
        self.sizes = cell.state_sizes
        self.step = torch.compile(cell)

    def forward(self, x: Tensor) -> Tensor:
        state: tuple[Tensor, ...] = tuple(x.new_zeros(x.size(1), size) for size in self.sizes)
        outputs: list[Tensor] = []
        for row in x:
            new = self.step(row, state[0] if len(state) == 1 else state)
            state = (new,) if isinstance(new, Tensor) else new
            outputs.append(state[0])
        return torch.stack(outputs)


def triton(kind: Callable[..., carousel.Recurrent], x: Tensor) -> nn.Module:
    return kind(x.size(2), x.size(2), backend="triton", device=x.device)


def cudnn(_, x: Tensor) -> nn.Module:
    return nn.LSTM(x.size(2), x.size(2), device=x.device)


def compiled(kind: Callable[..., carousel.Recurrent], x: Tensor) -> nn.Module:
    return Compiled(kind(x.size(2), x.size(2), device=x.device).cell())


def graphed(kind: Callable[..., carousel.Recurrent], x: Tensor) -> nn.Module:
    layer = kind(x.size(2), x.size(2), backend="eager", device=x.device)
    torch.cuda.make_graphed_callables(layer, (x,))  # in place
    return layer


CONTESTANTS: dict[str, Callable[[Callable[..., carousel.Recurrent], Tensor], nn.Module]] = {
    "triton": triton,
    "nn.LSTM": cudnn,
    "compiled": compiled,
    "graphed": graphed,
}


def seconds(work: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def measure(repeats: int, device: str, console) -> pd.DataFrame:
    """A row for each cell, work and shape: how Triton does it, and in ms the median of each contestant, in turns; nan
    for one that is not measured, of which the console is told why."""
    rows, cases = [], list(itertools.product(CELLS, WIDTHS, STEPS, BATCHES))
    for name, width, steps, batch in track(cases, "timing", console=console, disable=not console.is_terminal):
        torch.manual_seed(0)
        x, weights = torch.randn(2, steps, batch, width, device=device).unbind()
        modules: dict[str, nn.Module] = {}
        for who, make in CONTESTANTS.items():
            try:
                module = make(CELLS[name], x)
                for work in WORKS.values():
                    work(module, x, weights)
            except Exception as error:  # whatever a compiler or a capture stumbles over
                why = f"{type(error).__name__}: {error}".splitlines()[0]
                console.print(f"{name}, T, B, H = {steps}, {batch}, {width}: {who} not measured, {why}", markup=False)
            else:
                modules[who] = module
        how = carousel.explain(modules["triton"], x)[0].reason.split(";")[0] if "triton" in modules else ""
        for kind, work in WORKS.items():
            times: dict[str, list[float]] = {who: [] for who in modules}
            for _ in range(repeats):
                for who, module in modules.items():
                    times[who].append(seconds(partial(work, module, x, weights), device))
            found = {who: 1e3 * statistics.median(times[who]) if who in times else float("nan") for who in CONTESTANTS}
            rows.append({"cell": name, "work": kind, "T": steps, "B": batch, "H": width, "how": how, **found})
        del modules
        if device == "cuda":
            torch.cuda.empty_cache()
    return pd.DataFrame(rows)


def show(rows: pd.DataFrame) -> Table:
    """Triton's times, and how many of them each other takes."""
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    grid, others = Table(title=f"{where}, float32, by Triton"), [who for who in CONTESTANTS if who != "triton"]
    for heading in ("cell", "work", "T, B, H", "ms", *(f"times, {who}" for who in others)):
        grid.add_column(heading, no_wrap=True, justify="left" if heading in ("cell", "work") else "right")
    for _, row in rows.iterrows():
        ratios = (f"{row[who] / row.triton:.2f}" for who in others)
        grid.add_row(row.cell, row.work, f"{row['T']}, {row.B}, {row.H}", f"{row.triton:.2f}", *ratios)
    return grid
