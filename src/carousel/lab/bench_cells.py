"""Every cell beside its own loop, and cells beside what others have made of them: in turns, as medians of ratios."""

import os
import statistics
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pandas as pd
import torch
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

import carousel
from carousel import cells

from .bench_short import WORKS, forward, seconds, training_step

SHAPE = (32, 100, 128)
"""B, T, and H, which is the number of features as well."""
OPTIONS: dict[type[cells.Cell], dict[str, int]] = {
    cells.LSTMVariantCell: {"layer_norm": True},
    cells.HighwayCell: {"depth": 2},
    cells.SLSTMCell: {"heads": 4},
    cells.FastGRNNCell: {"rank": 32},
}
"""Those that give a cell more than one product, or sums over its units."""
CATALOGUE = [getattr(cells, name) for name in cells.__all__ if name not in ("ABLATIONS", "Cell", "ModuleCell")]


class LayerNormLSTM(nn.Module):
    """An LSTM with layer norm as people write it: a loop in Python (Ba et al. 2016, eqs. 20-22)."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.wx, self.uh = (nn.Linear(units, 4 * units, bias=False) for _ in range(2))
        self.norm_x, self.norm_h, self.norm_c = (nn.LayerNorm(n) for n in (4 * units, 4 * units, units))

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.size(1), x.size(2))
        outputs = []
        for wx in self.norm_x(self.wx(x)):
            i, f, g, o = (wx + self.norm_h(self.uh(h))).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * self.norm_c(c).tanh()
            outputs.append(h)
        return torch.stack(outputs)


class BatchFirst(nn.Module):
    """A rival that wants (B, T, H) and may return more than its output."""

    def __init__(self, rival: nn.Module) -> None:
        super().__init__()
        self.rival = rival

    def forward(self, x: Tensor) -> Tensor:
        y = self.rival(x.transpose(0, 1))
        return (y if isinstance(y, Tensor) else y[0]).transpose(0, 1)


def _slstm(units: int) -> nn.Module:
    layer = import_module("xlstm.blocks.slstm.layer")
    options = {"embedding_dim": units, "num_heads": 4, "conv1d_kernel_size": 0, "backend": "vanilla"}
    made = layer.sLSTMLayer(layer.sLSTMLayerConfig(**options, dtype="float32", enable_automatic_mixed_precision=False))
    made.group_norm = nn.Identity()
    return BatchFirst(made)


class KerasOnJax(nn.Module):
    """Keras' LSTM, compiled by XLA, which has threads of its own: as many as there are cores.

    Raises:
        RuntimeError: it is to be held to fewer.
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        if torch.get_num_threads() != os.cpu_count():
            raise RuntimeError("XLA takes all cores that there are")
        os.environ["KERAS_BACKEND"] = "jax"
        jax, keras = import_module("jax"), import_module("keras")
        layer = keras.layers.LSTM(units, return_sequences=True)
        layer.build((None, None, units))
        fixed = [v.value for v in layer.non_trainable_variables]
        self.weights = [v.value for v in layer.trainable_variables]

        def run(weights, x):
            return layer.stateless_call(weights, fixed, x)[0]

        def loss(weights, x, of_output):
            return (run(weights, x) * of_output).sum()

        self.run, self.gradient, self.array = jax.jit(run), jax.jit(jax.grad(loss)), jax.numpy.asarray
        self.works = {"inference": self.forward, "training": self.training_step}
        self.given: dict[int, object] = {}

    def _given(self, x: Tensor):
        if id(x) not in self.given:  # handed over once, before the timing
            self.given[id(x)] = self.array(x.transpose(0, 1).numpy())
        return self.given[id(x)]

    def forward(self, _, x: Tensor, weights: Tensor) -> None:
        self.run(self.weights, self._given(x)).block_until_ready()

    def training_step(self, _, x: Tensor, weights: Tensor) -> None:
        for gradient in self.gradient(self.weights, self._given(x), self._given(weights)):
            gradient.block_until_ready()


RIVALS: dict[str, tuple[Callable[[int], nn.Module], Callable[[int], nn.Module]]] = {
    "minGRU, minGRU-pytorch": (
        lambda h: carousel.Recurrent(cells.MinGRUCell, h, h, bias=False),
        lambda h: BatchFirst(import_module("minGRU_pytorch").minGRU(h)),
    ),
    "sLSTM, xlstm's vanilla backend": (lambda h: carousel.Recurrent(cells.SLSTMCell, h, h, heads=4), _slstm),
    "CfC, ncps": (
        lambda h: carousel.Recurrent(cells.CfCCell, h, h),
        lambda h: BatchFirst(import_module("ncps.torch").CfC(h, h, backbone_layers=0)),
    ),
    "SRU, sru": (
        lambda h: carousel.Recurrent(cells.SRUCell, h, h),
        lambda h: import_module("sru").SRU(h, h, num_layers=1),
    ),
    "LSTM, Keras on JAX": (lambda h: carousel.LSTM(h, h), KerasOnJax),
    "LSTM with layer norm, a loop": (lambda h: carousel.LSTM(h, h, layer_norm=True), LayerNormLSTM),
}
"""Ours and theirs, by H. Theirs come with the extra `rivals`."""
COMPILED = ", compiled"
"""A rival as torch.compile has it."""


def rivals() -> dict[str, tuple[Callable[[int], nn.Module], Callable[[int], nn.Module]]]:
    """The pairs of `RIVALS`, and again with theirs compiled."""

    def compiled(name: str) -> tuple[Callable[[int], nn.Module], Callable[[int], nn.Module]]:
        ours, rival = RIVALS[name]

        def make(h: int) -> nn.Module:
            module = rival(h)
            module.compile()
            return module

        return ours, make

    return RIVALS | {name + COMPILED: compiled(name) for name in RIVALS if "JAX" not in name}


def of_cells() -> dict[str, tuple[Callable[[int], nn.Module], Callable[[int], nn.Module]]]:
    """Every cell's layer, and the loop around the same cell."""

    def layer(kind: type[cells.Cell], backend: str) -> Callable[[int], nn.Module]:
        options: dict[str, Any] = OPTIONS.get(kind, {})
        return lambda h: carousel.Recurrent(kind, h, h, backend=backend, **options)

    return {kind.__name__: (layer(kind, "fused"), layer(kind, "eager")) for kind in CATALOGUE}


def multiply_adds(layer: nn.Module) -> int:
    """Those of a step of one sequence in a forward pass: each number of a matrix takes part once."""
    return sum(p.numel() for name, p in layer.named_parameters() if name.startswith("weight"))


def measure(pairs: dict, threads: int, repeats: int, console) -> pd.DataFrame:
    """A row for each pair and work: times, the rival's over ours, ours over that of the bare product W x, and the speed
    beside nn.LSTM's of this size, per multiply-add."""
    torch.set_num_threads(threads)
    batch, steps, units = SHAPE
    torch.manual_seed(0)
    x, weights = torch.randn(steps, batch, units), torch.randn(steps, batch, units)
    rows = []
    for name in track(pairs, "timing", console=console, disable=not console.is_terminal, transient=True):
        try:
            ours, rival = (make(units) for make in pairs[name])
        except (ImportError, RuntimeError) as error:
            console.print(f"{name}: not measured, {error}")
            continue
        floor, torchs = nn.Linear(units, next(iter(ours.parameters())).size(0), bias=False), nn.LSTM(units, units)
        share = multiply_adds(ours) / multiply_adds(torchs)
        for kind, work in WORKS.items():
            with torch.set_grad_enabled(work is training_step):
                engine = carousel.explain(ours, x)[0].engine
            its_work = getattr(rival, "works", WORKS)[kind]
            try:
                seconds(its_work, rival, x, weights)
            except Exception as error:  # whatever a compiler stumbles over
                console.print(f"{name}, {kind}: not measured, {type(error).__name__}")
                continue
            turns = []
            for _ in range(repeats + 1):
                taken = [seconds(work, ours, x, weights), seconds(its_work, rival, x, weights)]
                taken += [seconds(forward, floor, x, weights), seconds(work, torchs, x, weights)]
                turns.append(taken)
            mine, its, bare, _ = (statistics.median(t) for t in zip(*turns[1:], strict=True))
            speed = statistics.median(t[1] / t[0] for t in turns[1:])
            of_lstm = share * statistics.median(t[3] / t[0] for t in turns[1:])
            rows.append((threads, name, kind, engine, 1e3 * mine, 1e3 * its, speed, mine / bare, of_lstm))
    columns = ["threads", "pair", "work", "engine", "ms", "rival_ms", "speed", "of_bare_product", "of_nn_lstm"]
    return pd.DataFrame(rows, columns=columns)


def show(rows: pd.DataFrame, title: str) -> Table:
    grid = Table(title=title)
    for heading in ("threads", "pair", "work", "engine", "ms", "rival's ms", "speed", "times of W x", "of nn.LSTM"):
        grid.add_column(heading, justify="left" if heading in ("pair", "work", "engine") else "right")
    for row in rows.itertuples(index=False):
        times = (row.ms, row.rival_ms, row.speed, row.of_bare_product, row.of_nn_lstm)
        grid.add_row(str(row.threads), row.pair, row.work, row.engine, *(f"{t:.2f}" for t in times))
    return grid
