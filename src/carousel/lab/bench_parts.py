"""What a call is bounded by, what it costs besides its steps, and how it fares on a busy machine."""

import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Generator, Iterator

import pandas as pd
import torch
import torch.nn.functional as F
from rich.progress import track
from rich.table import Table
from torch import nn

import carousel
from carousel import cells

from .bench_short import WORKS, forward, seconds

PACKED = (128, 512)
"""H, and I, of which the weights are packed."""
BUSY = (32, 100, 2, 128)
"""B, T, I, H, beside as many endless loops as there are cores."""
IMPORT = "import time, torch; begin = time.process_time(); import carousel; print(time.process_time() - begin)"
TORCH = "import time; begin = time.process_time(); import torch; print(time.process_time() - begin)"
COLUMNS = ["part", "B", "T", "I", "H", "threads", "work", "ms", "beside", "beside_ms", "ratio"]


class BareLSTM(cells.LSTMCell):
    """An LSTM's products, and hardly anything else. Its numbers differ, or the kernel would add up equal gradients."""

    def update(self, wx, uh, state):
        i, f, g, o = (wx + uh).chunk(4, -1)
        c = 0.5 * state[1] + i + 0.5 * g
        return (0.01 * c + 0.02 * f + 0.03 * o, c), {}


class BareSLSTM(cells.SLSTMCell):
    """The same of an sLSTM."""

    def update(self, wx, uh, state):
        _, c, n, m = state
        i, f, z, o = (wx + uh).chunk(4, -1)
        c, n = 0.5 * c + i + 0.5 * z, 0.5 * n + 0.2 * f
        return (0.01 * c + 0.02 * n + 0.03 * o, c, n, m), {}


class BareChoGRU(cells.ChoGRUCell):
    """The same of Cho's GRU."""

    def update(self, wx, uh, state):
        (h,) = state
        wr, wz, wn = wx.chunk(3, -1)
        ur, uz = uh.chunk(2, -1)
        n = wn + self._map(0.5 * h + 0.1 * (wr + ur), self.rows("n"))
        return (0.5 * h + 0.1 * n + 0.2 * (wz + uz),), {}


class BareLEM(cells.LEMCell):
    """The same of LEM."""

    def update(self, wx, uh, state):
        y, z = state
        w1, w2, wz, wy = wx.chunk(4, -1)
        u1, u2, uz = uh.chunk(3, -1)
        z = 0.5 * z + 0.1 * (wz + uz) + 0.2 * (w1 + u1)
        return (0.5 * y + 0.1 * (wy + F.linear(z, self.weight_zh)) + 0.2 * (w2 + u2), z), {}


AWAY, LARGE = "without activations", (32, 100, 128, 128)
BOUNDED: tuple = (
    ((32, 200, 2, 32), AWAY, "LSTM", (BareLSTM, {}), (cells.LSTMCell, {})),
    ((1, 1000, 64, 256), AWAY, "LSTM", (BareLSTM, {}), (cells.LSTMCell, {})),
    (LARGE, AWAY, "LSTM", (BareLSTM, {}), (cells.LSTMCell, {})),
    (LARGE, AWAY, "sLSTM", (BareSLSTM, {"heads": 4}), (cells.SLSTMCell, {"heads": 4})),
    (LARGE, AWAY, "Cho's GRU", (BareChoGRU, {}), (cells.ChoGRUCell, {})),
    (LARGE, AWAY, "LEM", (BareLEM, {}), (cells.LEMCell, {})),
    (LARGE, "without layer norm", "LSTM", (cells.LSTMCell, {}), (cells.LSTMVariantCell, {"layer_norm": True})),
)
"""B, T, I, H, what is taken away of which cell, what is left and the whole."""


def in_turns(works: list, repeats: int) -> tuple[list[float], float]:
    """Of two calls, the mean seconds of each, and the median of the turns' ratios, the first's over the second's."""
    turns = [[seconds(*work) for work in works] for _ in range(repeats + 1)][1:]
    return [statistics.mean(taken) for taken in zip(*turns, strict=True)], statistics.median(a / b for a, b in turns)


def bounds(repeats: int) -> Iterator[tuple]:
    """Kernels of which a part is taken away, beside the whole, on one thread."""
    torch.set_num_threads(1)
    for shape, part, name, *both in BOUNDED:
        batch, steps, inputs, hidden = shape
        x, weights = torch.randn(steps, batch, inputs), torch.randn(steps, batch, hidden)
        layers = [carousel.Recurrent(kind, inputs, hidden, backend="fused", **options) for kind, options in both]
        for kind, work in WORKS.items():
            (mine, whole), ratio = in_turns([(work, layer, x, weights) for layer in layers], repeats)
            yield part, *shape, 1, kind, 1e3 * mine, name, 1e3 * whole, ratio


def packing(repeats: int) -> Iterator[tuple]:
    """What a call takes besides its steps, mostly to pack the weights, beside a step: from sequences of two lengths."""
    torch.set_num_threads(1)
    short, long = 20, 120
    for hidden in PACKED:
        layer = carousel.LSTM(hidden, hidden, backend="fused")
        both = [torch.randn(steps, 1, hidden) for steps in (short, long)]
        (few, many), _ = in_turns([(forward, layer, x, x) for x in both], repeats)
        step = (many - few) / (long - short)
        packed = few - short * step
        shape = (1, short, hidden, hidden)
        yield "packing", *shape, 1, "inference", 1e3 * packed, "a step", 1e3 * step, packed / step


def importing(repeats: int) -> Iterator[tuple]:
    """`import carousel` after torch, in processes of their own: CPU time, which others' work does not lengthen."""
    own, torchs = (
        statistics.median(
            float(subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout)
            for _ in range(repeats)
        )
        for code in (IMPORT, TORCH)
    )
    yield "import carousel", *[None] * 4, 1, "import", 1e3 * own, "import torch", 1e3 * torchs, own / torchs


@contextlib.contextmanager
def busy() -> Generator[None]:
    """Meanwhile each core has an endless loop as well."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def beside_others(repeats: int) -> Iterator[tuple]:
    """The LSTM beside torch's, on two threads, that have to wait for each other and for the machine."""
    torch.set_num_threads(2)
    batch, steps, inputs, hidden = BUSY
    x, weights = torch.randn(steps, batch, inputs), torch.randn(steps, batch, hidden)
    layers = [carousel.LSTM(inputs, hidden, backend="fused"), nn.LSTM(inputs, hidden)]
    for part, machine in (("a free machine", contextlib.nullcontext), ("a busy machine", busy)):
        with machine():
            for name, work in WORKS.items():
                # Many turns, and their means: what counts is how often and for how long a thread is kept waiting.
                (mine, torchs), _ = in_turns([(work, layer, x, weights) for layer in layers], 20 * repeats)
                yield part, *BUSY, 2, name, 1e3 * mine, "nn.LSTM", 1e3 * torchs, mine / torchs


def measure(repeats: int, console) -> pd.DataFrame:
    """A row for each part: `ms`, the mean of the turns, `beside_ms` of what it is held against, and `ratio`, the median
    of the turns' ratios; of the free and the busy machine that of the means."""
    torch.manual_seed(0)
    parts = (bounds, packing, importing, beside_others)
    shown = track(parts, "timing", console=console, disable=not console.is_terminal, transient=True)
    return pd.DataFrame([row for part in shown for row in part(repeats)], columns=COLUMNS)


def show(rows: pd.DataFrame) -> Table:
    grid = Table(title="parts of a call")
    for heading in ("part", "B, T, I, H", "threads", "work", "ms", "beside", "its ms", "ratio"):
        grid.add_column(heading, justify="right" if heading in ("ms", "its ms", "ratio", "threads") else "left")
    for row in rows.itertuples(index=False):
        shape = "" if pd.isna(row.B) else ", ".join(str(int(n)) for n in (row.B, row.T, row.I, row.H))
        numbers = (f"{row.beside_ms:.3g}", f"{row.ratio:.2f}")
        grid.add_row(row.part, shape, str(row.threads), row.work, f"{row.ms:.3g}", row.beside, *numbers)
    return grid
