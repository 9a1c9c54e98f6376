"""The LSTM's variants as options that combine."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cell import Cell, State

PARTS = ("input_gate", "forget_gate", "output_gate", "input_activation", "output_activation")

ABLATIONS = {
    "NIG": {"peephole": True, "without": ("input_gate",)},
    "NFG": {"peephole": True, "without": ("forget_gate",)},
    "NOG": {"peephole": True, "without": ("output_gate",)},
    "NIAF": {"peephole": True, "without": ("input_activation",)},
    "NOAF": {"peephole": True, "without": ("output_activation",)},
    "NP": {"peephole": False},
    "CIFG": {"peephole": True, "coupled": True},
    "FGR": {"peephole": True, "full_gate_recurrence": True},
}
"""The eight variants of Greff et al. 2017, section 3, each one change away from the LSTM with peepholes."""


class LSTMVariantCell(Cell):
    r"""The LSTM with what has been added to it, and taken from it, in its equations (see `LSTMCell`).

    Args:
        peephole: the gates see the cell state, elementwise (Gers & Schmidhuber 2000):
            i and f get :math:`p \odot c_{t-1}`, o gets :math:`p_o \odot c_t`.
        coupled: :math:`f_t = 1 - i_t` (Greff et al. 2017, CIFG).
        layer_norm: W x and U h, each over its 4H rows, and c on its way out are normalised (Ba et al. 2016, eqs.
            20-22).
        without: one or more parts to leave out, of "input_gate", "forget_gate", "output_gate" (then 1),
            "input_activation", "output_activation" (then the identity).
        full_gate_recurrence: the gates also see all gates of the step before (Greff et al. 2017, FGR).

    An nn.LSTM's weights load into any of these. Peepholes and gate recurrence start at zero, gains at one: with the
    first two a cell computes what the nn.LSTM computed until training moves it.

    State: h, c, each (B, H); with `full_gate_recurrence` also i, f and o. Other arguments and errors: see `Cell`.

    Raises:
        ValueError: `without` names no part, or `coupled` goes with a gate that is left out.
    """

    gates = ("i", "f", "g", "o")
    projectable = True

    def __init__(
        self,
        *arguments: Any,
        peephole: bool = False,
        coupled: bool = False,
        layer_norm: bool = False,
        without: str | Iterable[str] = (),
        full_gate_recurrence: bool = False,
        **options: Any,
    ) -> None:
        self.peephole, self.coupled, self.layer_norm = peephole, coupled, layer_norm
        self.without = (without,) if isinstance(without, str) else tuple(without)
        self.full_gate_recurrence = full_gate_recurrence
        self.states = ("h", "c", "i", "f", "o") if full_gate_recurrence else ("h", "c")
        if unknown := set(self.without) - set(PARTS):
            raise ValueError(f"without must name parts among {', '.join(PARTS)}, got {', '.join(map(str, unknown))}")
        if coupled and {"input_gate", "forget_gate"} & set(self.without):
            raise ValueError("coupled needs both the input gate and the forget gate")
        gates = self._gates_that_are_there()
        self.keep_gate = "1 - i" if coupled else "f" if "f" in gates else None
        self.write_gate = "i" if "i" in gates and not coupled else None
        if layer_norm:  # which takes the scale off what comes before it
            self.gate_biases = ("shift_ih", "shift_hh")
        super().__init__(*arguments, **options)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        H = self.hidden_size
        shapes = super().shapes()
        shapes |= {f"weight_c{gate}": (H, 1) for gate in self._gates_that_are_there()} if self.peephole else {}
        shapes |= {"weight_gg": (3 * H, 3 * H)} if self.full_gate_recurrence else {}
        for name, size in (("ih", 4 * H), ("hh", 4 * H), ("c", H)) if self.layer_norm else ():
            shapes |= {f"gain_{name}": (size,), f"shift_{name}": (size,)}
        return shapes

    def draw(self, name: str, parameter: Tensor) -> None:
        super().draw(name, parameter)  # drawn in any case, so that all variants take as many random numbers
        if name.startswith(("weight_c", "weight_gg", "gain", "shift")):
            nn.init.constant_(parameter, name.startswith("gain"))

    def input_map(self, x: Tensor) -> Tensor:
        return self._norm("ih", super().input_map(x))

    def hidden_map(self, h: Tensor) -> Tensor:
        return self._norm("hh", super().hidden_map(h))

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        _, c, *old = state
        i, f, g, o = (wx + uh).chunk(4, -1)
        if self.full_gate_recurrence:
            ri, rf, ro = F.linear(torch.cat(old, -1), self.weight_gg).chunk(3, -1)
            i, f, o = i + ri, f + rf, o + ro
        i = self._gate("i", i, c)
        f = 1 - i if self.coupled else self._gate("f", f, c)
        g = self._squash("input_activation", g)
        c = f * c + i * g
        o = self._gate("o", o, c)
        h = o * self._squash("output_activation", self._norm("c", c))
        state = (h, c, i, f, o) if self.full_gate_recurrence else (h, c)
        return state, {"i": i, "f": f, "g": g, "o": o}

    def _gates_that_are_there(self) -> list[str]:
        left_out = {part[0] for part in self.without if part.endswith("_gate")} | ({"f"} if self.coupled else set())
        return [gate for gate in "ifo" if gate not in left_out]

    def _gate(self, gate: str, a: Tensor, c: Tensor) -> Tensor:
        if gate not in self._gates_that_are_there():
            return torch.ones_like(a)
        return (a + getattr(self, f"weight_c{gate}").squeeze(-1) * c if self.peephole else a).sigmoid()

    def _squash(self, part: str, a: Tensor) -> Tensor:
        return a if part in self.without else a.tanh()

    def _norm(self, name: str, a: Tensor) -> Tensor:
        if not self.layer_norm:
            return a
        return F.layer_norm(a, a.shape[-1:], getattr(self, f"gain_{name}"), getattr(self, f"shift_{name}"))
