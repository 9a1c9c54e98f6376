"""Kernels of which each pass is some launches of Triton's functions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...autocast import suspended
from ..target import BuildError, Kernel
from .build import load
from .emit import FLAGS, head
from .function import Function

TIMED = ("x", "wx", "out", "d_out", "d_x", "d_wx", "d_uh", "hidden_input", "multiplied", "d_made", *FLAGS)
"""What there is for each step, besides `update_mask` and `saved`."""
WIDE = ("carried", "d_extra", "scratch", "through", "uh")
"""What begins so is a float32 in half precision, too: sums, and what goes on from one step to the next."""
TOLD = "with Triton, {}; it has been compiled and interpreted, and not run on a GPU yet"


class Launched(Kernel):
    """Functions from their source, and how they are launched.

    Args:
        functions: by name.
        words: what stands before them.
        interpreted: whether by the interpreter.
        how: what `explain` says of them.
        dtype: of all numbers.
        options: of Triton's compiler.
    """

    schedule: str
    """"by steps", if torch multiplies between launches."""

    def __init__(
        self,
        functions: dict[str, Function],
        words: str,
        interpreted: bool,
        how: str,
        dtype: torch.dtype,
        options: dict[str, Any],
    ) -> None:
        self.pointers = {name: tuple(f.pointers) for name, f in functions.items()}
        self.flags = {name: f.flags for name, f in functions.items()}
        text = "\n\n\n".join([words, head().rstrip(), *(f.text for f in functions.values())]) + "\n"
        self.sources, self.functions = {"both": text}, load(text, interpreted)
        self.how, self.dtype, self.wide = TOLD.format(how), dtype, torch.promote_types(dtype, torch.float32)
        self.options = {"num_warps": 4, "enable_fp_fusion": True} | options

    def compile(self, room: int) -> None:
        """Have Triton compile every function for the current device, as they are launched in training.

        Args:
            room: bytes that a program may keep on its chip.

        Raises:
            BuildError: its compiler refuses, or the chip is too small for what it makes.
        """
        flags = {"SAVE": True, "D_OUT": True, "NORMS": False, "PRECISION": self.precision()}
        for name, pointers in self.pointers.items():
            known = {flag: flags[flag] for flag in self.flags[name]} | self.options
            try:
                kinds = (self.type(name, pointer) for pointer in pointers)
                made = self.functions[name].warmup(*kinds, T=2, B=2, grid=(1,), **known)
            except Exception as error:  # whatever it stumbles over
                lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["it does not say why"]
                line = next((line for line in lines if "error" in line), lines[-1])
                raise BuildError(f"Triton refuses the kernel: {type(error).__name__}: {line[:200]}") from error
            if made.metadata.shared > room:
                raise BuildError(f"the kernel takes {made.metadata.shared} bytes of a chip that has {room}")

    def type(self, name: str, pointer: str) -> torch.dtype:
        """Of what is there, for a function. From one launch to the next a state is not rounded either; backwards it is
        the output."""
        between = self.schedule == "by steps" and pointer.startswith(("state", "last")) and "backward" not in name
        wide = self.wide if between or pointer.startswith(WIDE) else self.dtype
        return torch.uint8 if pointer in FLAGS else wide

    def call(self, which: str, x: Tensor, given: dict) -> None:
        device = torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()
        with torch.no_grad(), suspended(x), device:  # a backward pass may be within autocast
            getattr(self, which)(x, _present(given))

    def always(self, given: dict[str, Any]) -> dict[str, Any]:
        """The states and masks, which all passes read, by the names of their pointers."""
        values = {f"state{k}": s for k, s in enumerate(given["state"])}
        values |= {f"update_mask{k}": s for k, s in enumerate(given["update_mask"])}
        values |= {name: given[name].view(torch.uint8) for name in FLAGS if name in given}
        return values | {"recurrent": given.get("recurrent")}

    def carried(self, given: dict[str, Any]) -> list[Tensor]:
        """The gradients of the last states, to be written over by those of the first."""
        pairs = zip(given["state"], given["d_last"], strict=True)
        return [(torch.zeros_like(s) if d is None else d).to(self.wide, copy=True) for s, d in pairs]

    def on(self, values: dict[str, Any], steps: int) -> Iterator[dict[str, Any]]:
        """What a launch for each step is given, forwards; a state is written where it is read, to the last states'
        places in the end."""
        names = [name for name in values if name.startswith("state")]
        now = {name: values[name].to(self.wide, copy=True) for name in names}
        there = values | now | {name.replace("state", "last"): state for name, state in now.items()}
        for t in range(steps):
            yield _at(there, t, steps)
        for name in names:
            values[name.replace("state", "last")].copy_(now[name])

    def back(self, values: dict[str, Any], steps: int) -> Iterator[dict[str, Any]]:
        """The same, backwards."""
        for t in reversed(range(steps)):
            yield _at(values, t, steps) | ({"state0": values["out"][t - 1]} if t > 0 else {})

    def precision(self) -> str:
        """How products within a kernel are rounded: as torch's switch has it, TF32, or three times that, which makes a
        float32 of it; Triton's compiler has broken down over float32 itself. TF32 holds half precision."""
        if self.dtype == torch.float64:
            return "ieee"
        if self.dtype != torch.float32:
            return "tf32"
        return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"

    def launch(
        self, name: str, programs: int, x: Tensor, values: dict[str, Any], steps: int, flags: dict[str, bool], most: int
    ) -> None:
        """
        Args:
            name: of the function.
            programs: how many.
            x: (T, B, ...), which stands for what is not there, too.
            values: by the names of pointers.
            steps: how many of them.
            flags: what the function is compiled for.
            most: numbers that a step of a sequence has at one pointer.

        Raises:
            MemoryError: they are too many to be counted in 32 bits.
        """
        batch = x.size(1)
        if batch * most >= 1 << 31:
            raise MemoryError("a step of more than 2^31 numbers")
        pointers = {f"p_{n}": x if values.get(n) is None else values[n] for n in self.pointers[name]}
        found = flags | {"PRECISION": self.precision()}
        function = self.functions[name][(programs,)]
        function(**pointers, T=steps, B=batch, **{flag: found[flag] for flag in self.flags[name]}, **self.options)


def _at(values: dict[str, Any], t: int, steps: int) -> dict[str, Any]:
    """A step's part of what has one for each."""
    timed = (name for name in values if name in TIMED or name.startswith("update_mask"))
    parts = values | {name: values[name][t] for name in timed if values[name] is not None}
    return parts | ({} if values.get("saved") is None else {"saved": values["saved"].view(steps, -1)[t]})


def _present(given: dict[str, Any]) -> dict[str, Any]:
    """Without what is not there, or not wanted; in lists that is None."""

    def there(value: Tensor | None) -> Tensor | None:
        return None if value is None or value.numel() == 0 else value

    lists = {name: [there(t) for t in value] for name, value in given.items() if isinstance(value, list)}
    single = {name: there(value) for name, value in given.items() if name not in lists}
    return {name: value for name, value in single.items() if value is not None} | lists
