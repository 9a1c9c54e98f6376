"""How a program in rows multiplies: its sequences' U h, forwards, and the same of the adjoint."""

from __future__ import annotations

import torch

from .function import ROWS, Function, padded

DEPTH = 16
"""Units that are multiplied with at a time, where the weights are read again in every step."""


def room(products: int, units: int, dtype: torch.dtype) -> int:
    """Bytes on its chip that a program with all weights there takes at most: these, of float32 in two parts, and what
    goes from one thread to another."""
    size, width = (8 if dtype == torch.float64 else 4), padded(units)
    return products * width * width * 8 + (4 * products + 8) * ROWS * width * size


class Held:
    """By weights that are there for all steps.

    Args:
        blocks: of U h.
        units: H.
        real: the type.
    """

    def __init__(self, blocks: int, units: int, real: str) -> None:
        self.blocks, self.units, self.how = blocks, units, f"input_precision=PRECISION, out_dtype={real}"
        self.zero = f"tl.full([{ROWS}, {padded(units)}], 0.0, {real})"

    def begin(self, f: Function, forward: bool) -> list[str]:
        """Before the first step; forwards the weights are those of the transposed map, and the bias comes with them."""
        lines = [f"row = tl.arange(0, {padded(self.units)})[:, None]"]
        lines += [f"inside = (row < {self.units}) & (unit < {self.units})"]
        place = f"unit * {self.units} + row" if forward else f"row * {self.units} + unit"
        for g in range(self.blocks):
            at = f"{f.pointer('w_h')} + {g * self.units**2} + {place}"
            lines.append(f"w{g} = {f.read(at, 'inside')}")
        return [*lines, *(self.bias(f) if forward else [])]

    def bias(self, f: Function) -> list[str]:
        at = f"{f.pointer('b_h')} + unit"
        mask = f"unit < {self.units}"
        return [f"bias{g} = {f.read(f'{at} + {g * self.units}', mask)}" for g in range(self.blocks)]

    def forward(self, f: Function) -> list[str]:
        """uh{g} of `hidden_input`, in step t."""
        return [f"uh{g} = tl.dot(hidden_input, w{g}, {self.how}) + bias{g}" for g in range(self.blocks)]

    def backward(self, f: Function, d_uh: str) -> list[str]:
        """`through` of d_uh{g}, which have been stored too."""
        lines = [f"through = tl.dot(d_uh0, w0, {self.how})"]
        return [*lines, *(f"through = tl.dot(d_uh{g}, w{g}, through, {self.how})" for g in range(1, self.blocks))]


class Streamed(Held):
    """By weights that are read in every step, some rows at a time. What these are multiplied with goes by way of the
    memory, too: a thread has some units of a vector, and multiplies with others. Others' are there after a barrier."""

    def begin(self, f: Function, forward: bool) -> list[str]:
        return self.bias(f) if forward else []

    def forward(self, f: Function) -> list[str]:
        H = self.units
        return [
            f"turn = {f.pointer('scratch')} + (t % 2) * (B * {H})",  # so that none writes what others are yet to read
            "tl.store(turn + at, hidden_input, mask=valid)",
            "tl.debug_barrier()",
            *(f"uh{g} = bias{g} + {self.zero}" for g in range(self.blocks)),
            *self.loop(f, "w_t", [f"turn + b * {H}"] * self.blocks, [f"uh{g}" for g in range(self.blocks)]),
        ]

    def backward(self, f: Function, d_uh: str) -> list[str]:
        parts = [f"{f.pointer(d_uh)} + (b * {self.blocks} + {g}) * {self.units}" for g in range(self.blocks)]
        return ["tl.debug_barrier()", f"through = {self.zero}", *self.loop(f, "w_h", parts, ["through"] * self.blocks)]

    def loop(self, f: Function, weights: str, parts: list[str], sums: list[str]) -> list[str]:
        """Add to each sum the part's product with a block of the weights, in which a row has its results' units."""
        H, lines, part = self.units, [], ""
        for g in range(self.blocks):
            if parts[g] != part:
                part = parts[g]
                lines.append(f"part = {f.read(f'{part} + k', f'(b < B) & (k < {H})')}")
            at = f"{f.pointer(weights)} + {g * H * H} + row * {H} + unit"
            lines.append(f"w = {f.read(at, f'(row < {H}) & (unit < {H})')}")
            lines.append(f"{sums[g]} = tl.dot(part, w, {sums[g]}, {self.how})")
        places = [f"k = begin + tl.arange(0, {DEPTH})[None, :]", f"row = begin + tl.arange(0, {DEPTH})[:, None]"]
        return [f"for begin in range(0, {H}, {DEPTH}):", *(f"    {line}" for line in [*places, *lines])]
