"""How long our layers take beside torch's: every contestant in one process, in turns, as ratios of medians."""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

import carousel

from .results import write

SHAPES = ((32, 100, 2, 128), (20, 1000, 2, 128), (64, 50, 256, 512), (8, 1000, 64, 256), (32, 200, 2, 32))
"""B, T, I, H."""
TWINS = ((carousel.LSTM, nn.LSTM), (carousel.GRU, nn.GRU), (carousel.RNN, nn.RNN))


def forward(layer: nn.Module, x: torch.Tensor, weights: torch.Tensor) -> None:
    with torch.no_grad():
        layer(x)


def training_step(layer: nn.Module, x: torch.Tensor, weights: torch.Tensor) -> None:
    """Forward, and backward to every parameter. Every output takes part in the loss, so that no gradient vanishes
    into denormal numbers, whose slowness would be measured in place of the layer's."""
    layer.zero_grad()
    layer(x)[0].backward(weights)


def seconds(work: Callable[[], None], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def measure(shape: tuple[int, int, int, int], repeats: int, device: str) -> list[dict]:
    """Median times on one shape: all layers in turns, `repeats` times, after one turn to warm up."""
    batch, steps, inputs, hidden = shape
    torch.manual_seed(0)
    x = torch.randn(steps, batch, inputs, device=device)
    weights = torch.randn(steps, batch, hidden, device=device)
    layers = {
        f"{package}.{layer.__name__}": layer(inputs, hidden, device=device)
        for ours, theirs in TWINS
        for package, layer in (("carousel", ours), ("nn", theirs))
    }
    times = {(name, work): [] for name in layers for work in (forward, training_step)}
    for turn in range(repeats + 1):
        for (name, work), taken in times.items():
            t = seconds(lambda name=name, work=work: work(layers[name], x, weights), device)
            if turn > 0:
                taken.append(t)
    median = {key: statistics.median(taken) for key, taken in times.items()}
    return [
        {
            **dict(zip("BTIH", shape, strict=True)),
            "layer": name,
            "work": work.__name__,
            "ms": 1e3 * median[name, work],
            "speed_of_twin": median[f"nn.{name.split('.')[1]}", work] / median[name, work],
            "speed_of_nn_lstm": median["nn.LSTM", work] / median[name, work],
        }
        for name, work in times
    ]


def show(rows: pd.DataFrame) -> Table:
    grid = Table(title="speed relative to the torch.nn twin and to nn.LSTM: ratios of median times")
    grid.add_column("B, T, I, H", no_wrap=True)
    for work in ("forward", "train"):
        for heading in ("ms", "of twin", "of nn.LSTM"):
            grid.add_column(f"{work}\n{heading}", justify="right")
    for shape, group in rows.groupby(["B", "T", "I", "H"], sort=False):
        grid.add_row(f"[bold]{', '.join(map(str, shape))}[/]")
        for name, pair in group.groupby("layer", sort=False):
            cells = [f"{row.ms:.1f}|{row.speed_of_twin:.2f}|{row.speed_of_nn_lstm:.2f}" for row in pair.itertuples()]
            grid.add_row(name, *"|".join(cells).split("|"))
        grid.add_section()
    return grid


def main() -> None:
    """Time forward and training step of our layers beside torch's, over five shapes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=9, help="turns of which the median is taken (%(default)s)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--csv", type=Path, help="also write the rows there")
    args = parser.parse_args()
    if args.threads < 1 or args.repeats < 1:
        parser.error("--threads and --repeats must be at least 1")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no GPU here; allowed: cpu")
    torch.set_num_threads(args.threads)
    console = Console()
    quiet = not console.is_terminal
    shapes = track(SHAPES, "timing", console=console, disable=quiet, transient=True)
    rows = pd.DataFrame([row for shape in shapes for row in measure(shape, args.repeats, args.device)])
    console.print(show(rows))
    cpu = f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}, {args.threads} threads"
    where = torch.cuda.get_device_name() if args.device == "cuda" else cpu
    console.print(f"{where}, torch {torch.__version__}, float32, medians of {args.repeats}", highlight=False)
    if args.csv:
        write(args.csv, lambda part: rows.to_csv(part, index=False, float_format="%.4g"))
