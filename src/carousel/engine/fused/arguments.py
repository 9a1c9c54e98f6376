"""What a kernel is called with, in one table, from which each target makes the arguments of its functions."""

from collections.abc import Sequence
from typing import NamedTuple


class Argument(NamedTuple):
    name: str
    what: str
    """Its shape, or its meaning."""
    type: str = "const real*"
    """In C's words: "const" is what a kernel does not write to, and "real" of the kernel's dtype."""
    count: int | None = None  # pyright: ignore[reportIncompatibleMethodOverride]
    """Of an array: how many there are."""


SINGLE = {
    "x": "(T, B, I); or instead",
    "wx": "(T, B, GX * H), the result of the input map",
    "w_x": "(GX * H, I)",
    "b_x": "(GX * H,)",
    "w_h": "(GU * H, P)",
    "b_h": "(GU * H,)",
    "w_r": "(P, H)",
    "extra": "(EXTRA, H), parameters besides those of the maps",
}
"""What a step with one product reads, and has gradients of."""


def single(states: int) -> dict[str, list[Argument]]:
    """Of both passes of a `Step` with so many states."""
    read = [Argument(name, what) for name, what in SINGLE.items()]
    return _passes(states, read, [Argument(f"d_{name}", what, "real*") for name, what in SINGLE.items()])


def phased(states: int, weights: int) -> dict[str, list[Argument]]:
    """Of both passes of `Phases` with so many states, and `Phases.names`."""
    read = [Argument("x", "(T, B, INPUTS)"), Argument("weights", "the parameters that take part", count=weights)]
    gradients = [Argument("d_x", "(T, B, INPUTS)", "real*"), Argument("d_weights", "added to", "real*", weights)]
    return _passes(states, read, gradients)


def _passes(states: int, read: Sequence[Argument], gradients: Sequence[Argument]) -> dict[str, list[Argument]]:
    truths = "const unsigned char*"
    both = [
        *read,
        Argument("state", "(B, H) each, before the first step", count=states),
        Argument("reset", "(T, B): whether the state is zeroed before the step", truths),
        Argument("detach_gates", "(T, B): whether no gradient goes back through the hidden map", truths),
        Argument("detach_carousel", "(T, B): whether none goes back past it", truths),
        Argument("recurrent", "(B, H): multiplies h on its way into the hidden map"),
        Argument("update_mask", "(T, B, 1 or H) each: how far a state moves to its new value", count=states),
    ]
    forward = [
        Argument("out", "(T, B, H of the first state)", "real*"),
        Argument("saved", "(T, B, ...): what the adjoint needs; null if nothing does", "real*"),
        Argument("last", "(B, H) each, after the last step", "real*", states),
    ]
    backward = [
        Argument("out", "as the forward pass has left it"),
        Argument("saved", "likewise"),
        Argument("d_out", "the gradient of out; null if there is none"),
        Argument("d_last", "those of the last states", count=states),
        *gradients,
        Argument("d_state", "for those of the first states; null if they are not wanted", "real*", states),
        Argument("norms", "(T, B, states): for the squares of their gradients, added to", "double*"),
    ]
    return {"forward": [*both, *forward], "backward": [*both, *backward]}
