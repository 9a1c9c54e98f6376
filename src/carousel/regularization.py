"""What is done to a recurrent layer in training: noise, as `regularization=`, and gradients stopped, as `detach=`."""

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .cells.cell import Cell, State


def _is_probability(value: Any) -> bool:
    return isinstance(value, numbers.Real) and 0 <= float(value) <= 1


@dataclass(frozen=True)
class Regularization:
    """What is dropped, and with which probability, in every layer and direction; nothing by default.

    Args:
        input: units of x_t, one mask for all steps (variational dropout: Gal & Ghahramani 2016, eq. 7).
        recurrent: units of h_{t-1} on their way into the gates, one mask for all steps (the same).
        zoneout: units that keep their state for a step, drawn anew for each step; in evaluation the state moves by
            the mean (Krueger et al. 2017, eq. 4). One probability for all states that the cell lets be held back, or
            one for each, as (0.05, 0.5). States of one number (the parts of an LRU's) are held back together, and what
            others are measured by (a clock, the scale of an sLSTM and what is to that scale) is not.
        weight: entries of the recurrent weights, `weight_hh`, one mask for all steps (DropConnect: Merity et al. 2018,
            section 2).

    Raises:
        ValueError: a probability is not in [0, 1].
    """

    input: float = 0.0
    recurrent: float = 0.0
    zoneout: float | tuple[float, ...] = 0.0
    weight: float = 0.0

    def __post_init__(self) -> None:
        zoneout = tuple(self.zoneout) if isinstance(self.zoneout, Sequence) else self.zoneout
        object.__setattr__(self, "zoneout", zoneout)
        for name in ("input", "recurrent", "zoneout", "weight"):
            rates = getattr(self, name)
            several = rates if isinstance(rates, tuple) else (rates,)
            if not all(_is_probability(rate) for rate in several):
                raise ValueError(f"{name} should be a probability in range [0, 1], got {rates}")

    def zoneouts(self, cell: Cell) -> dict[tuple[str, ...], float]:
        """The probability for each group of a cell's states that are held back together.

        Raises:
            ValueError: there is not one for each state, or not the same for all of a group, or one for a state that
                cannot be held back.
        """
        states, kind = cell.states, type(cell).__name__
        groups = tuple((name,) for name in states) if cell.held is None else cell.held
        if not isinstance(self.zoneout, tuple):
            return dict.fromkeys(groups, self.zoneout)
        if len(self.zoneout) != len(states):
            raise ValueError(f"zoneout should be one number, or one for each of the cell's {len(states)} states")
        rates = dict(zip(states, self.zoneout, strict=True))
        for group in groups:
            if len({rates[name] for name in group}) > 1:
                raise ValueError(f"zoneout should be the same for {' and '.join(group)} of {kind}, got {self.zoneout}")
        if free := [name for name in states if rates[name] and not any(name in group for group in groups)]:
            raise ValueError(f"{kind} can't do without {free[0]}: its zoneout should be 0, got {rates[free[0]]}")
        return {group: rates[group[0]] for group in groups}

    def drop_weight(self, tensors: dict[str, Tensor], training: bool) -> dict[str, Tensor]:
        """A cell's tensors, those of its recurrent weight dropped.

        Raises:
            ValueError: it has none.
        """
        if not self.weight:
            return tensors
        if "weight_hh" not in tensors:
            raise ValueError("weight dropout needs a cell with a recurrent weight, weight_hh")
        return tensors | {"weight_hh": F.dropout(tensors["weight_hh"], self.weight, training)}

    def drop_input(self, x: Tensor, training: bool) -> Tensor:
        """(T, B, I) -> (T, B, I)."""
        return x * F.dropout(torch.ones_like(x[:1]), self.input, training) if self.input else x

    def recurrent_mask(self, h: Tensor, training: bool) -> Tensor | None:
        """(B, H), or None if nothing is dropped."""
        return F.dropout(torch.ones_like(h), self.recurrent, training) if self.recurrent else None

    def update_masks(self, cell: Cell, state: State, steps: int, training: bool) -> list[Tensor | None]:
        """How far each state moves to its new value at each step: (T, B, H) in [0, 1], or None for all the way."""
        if not self.zoneout:
            return [None] * len(state)
        found: dict[str, Tensor | None] = dict.fromkeys(cell.states)
        for group, rate in self.zoneouts(cell).items():
            if rate:
                like = state[cell.states.index(group[0])]
                mask = like.new_full((steps, *like.shape), 1 - rate)
                found |= dict.fromkeys(group, torch.bernoulli(mask) if training else mask)
        return list(found.values())


@dataclass(frozen=True)
class Detach:
    """Stop the gradient, and it alone, on one of its two paths back through a step; a layer's option `detach=`.

    The paths are the hidden map, by which h_{t-1} reaches the gates, and the carousel: all that an update takes
    directly of the old states, such as f * c in an LSTM and z * h in a GRU. `Detach(gates=1)` leaves the carousel
    alone, which is Hochreiter & Schmidhuber's truncated gradient (1997, appendix A.1); `Detach(carousel=1)` leaves the
    gates alone; `Detach(gates=0.25)` is h-detach (Arpit et al. 2019, section 2). What comes out of a step stays the
    same, and so does the gradient with respect to the weights within a step. What peepholes read of c counts to the
    carousel; the share of a state that zoneout keeps, or padding, is stopped by neither.

    Args:
        gates: probability that the path through the hidden map is stopped, drawn anew for each step, for all sequences.
        carousel: that the other one is.

    Raises:
        ValueError: a probability is not in [0, 1].
    """

    gates: float = 0.0
    carousel: float = 0.0

    def __post_init__(self) -> None:
        for name in ("gates", "carousel"):
            if not _is_probability(getattr(self, name)):
                raise ValueError(f"{name} should be a probability in range [0, 1], got {getattr(self, name)}")

    def masks(self, steps: int, device: torch.device | None = None) -> dict[str, bool | Tensor]:
        """Of `Masks`, what is detached in each step."""

        def draw(probability: float) -> bool | Tensor:
            if probability in (0, 1):
                return bool(probability)
            return torch.bernoulli(torch.full((steps, 1, 1), probability, device=device)).bool()

        return {"detach_gates": draw(self.gates), "detach_carousel": draw(self.carousel)}


NOTHING = (Regularization(), Detach())
"""What a layer has by default."""
