"""The recursion by which a gradient comes back, from the last layer to the first and from the last step to the first,
in numbers with a scale of their own: for each step and sequence a vector and a logarithm."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..cells.cell import State
from ..regularization import Detach
from .runs import Call, Run, observe

LN10 = math.log(10)


@dataclass(frozen=True)
class Scaled:
    """Vectors with a scale of their own: exp(`log`) times `value`."""

    value: Tensor
    """(..., n), the largest entry of each vector 1, or all zero."""
    log: Tensor
    """(..., 1), float64; -inf for a vector of zeros."""

    @classmethod
    def of(cls, tensor: Tensor, log: Tensor | float = 0.0) -> "Scaled":
        """exp(`log`) times a tensor."""
        size = tensor.abs().amax(-1, keepdim=True)
        return cls(tensor / torch.where(size == 0, 1.0, size), log + size.double().log())

    def at(self, log: Tensor | float) -> Tensor:
        """The numbers over exp(`log`): what is too small beside that is zero."""
        return self.value * (self.log - log).exp().to(self.value.dtype)

    def __add__(self, other: "Scaled") -> "Scaled":
        log = torch.maximum(self.log, other.log)
        log = torch.where(log == -torch.inf, 0.0, log)
        return Scaled.of(self.at(log) + other.at(log), log)

    def bands(self) -> Iterator[tuple[Tensor, float]]:
        """The same in as many parts as it takes for each to have one scale: (numbers, logarithm of their scale)."""
        width = math.log(torch.finfo(self.value.dtype).max) / 2
        band = (self.log.nan_to_num(nan=0.0, neginf=-torch.inf) / width).ceil()
        for k in band[band.isfinite()].unique().tolist():
            yield torch.where(band == k, self.at(k * width), 0.0), k * width


def walk(layer: nn.Module, loss: Callable[[], Tensor], ways: Sequence[Detach] = ()) -> list[list[dict[str, Tensor]]]:
    """Take the gradient of a loss back through all layers and directions.

    Returns:
        For each, in the order of torch's states, `Flow.log10_norm`; and once more for each of `ways`, by which the
        gradient that arrives from outside then goes back. If there are any, nothing else is detached.

    Raises:
        TypeError, ValueError: as `flow`.
    """
    with torch.inference_mode(False), torch.enable_grad(), observe(layer, loss, gradients=True) as (value, call):
        given, log = _arriving(value, call)
        results, runs, cuts = call.again(attached=bool(ways))
        given = [g.to(r.dtype) for g, r in zip(given, results, strict=True)]
        ends = [t for cut in cuts for t in cut]
        direct = iter(torch.autograd.grad(results, ends, given, True, allow_unused=True, materialize_grads=True))
        direct = [[next(direct) for _ in cut] for cut in cuts]
        outputs = [Scaled.of(y, log) for y, *_ in direct]
        lasts = [Scaled.of(torch.cat(last, -1), log) for _, *last in direct]
        found = []
        for k in reversed(range(len(runs))):
            curves, onward = walk_back(runs[k], outputs[k], lasts[k])
            found.append([curves])
            for way in ways:
                run = replace(runs[k], masks=runs[k].masks._replace(**way.masks(len(runs[k].rows))))
                found[-1].append(walk_back(run, outputs[k], lasts[k])[0])
            if not runs[k].rows[0].requires_grad:  # nothing below
                continue
            for part, scale in onward.bands():
                below = torch.autograd.grad(
                    runs[k].rows, [y for y, *_ in cuts[:k]], part.unbind(), retain_graph=True, allow_unused=True
                )
                for j, gradient in enumerate(below):
                    if gradient is not None:  # pyright: ignore[reportUnnecessaryComparison]
                        outputs[j] = outputs[j] + Scaled.of(gradient, scale)
        return found[::-1]


def _arriving(value: Tensor, call: Call) -> tuple[list[Tensor], float]:
    """The gradient of the loss with respect to the layer's results, over exp of a logarithm: what a small factor of the
    loss, or a large one, would take out of the range of its numbers."""
    if not (isinstance(value, Tensor) and value.numel() == 1):
        shown = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"the loss should be a tensor with one number, got {shown}")
    hint = "" if call.recorded else "; the layer ran without gradients: torch.no_grad, or a reentrant checkpoint"
    if not value.requires_grad:
        raise ValueError(f"the loss does not depend on anything that requires a gradient{hint}")
    most = int(math.log2(torch.finfo(value.dtype).max)) - 1
    exponent, low, high = 0, -most, most  # of a power of two: rounds nothing
    small = max(torch.finfo(t.dtype).tiny for t in (value, *call.results)) ** 0.5
    given, log, size = (), 0.0, 0.0
    for _ in range(12):
        seed = torch.full_like(value, 2.0**exponent)
        try:
            given = torch.autograd.grad(
                value, call.results, seed, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        except RuntimeError as error:
            for symptom, cause in SYMPTOMS.items():
                if symptom in str(error):
                    raise ValueError(cause) from error
            raise
        log = -exponent * math.log(2)
        size = float(torch.stack([g.abs().max().double() for g in given if g.numel()]).max())
        if small <= size <= 1 / small:
            break
        if size == 0:
            low, after = exponent, (exponent + high + 1) // 2
        elif not math.isfinite(size):
            high, after = exponent, (low + exponent) // 2
        else:
            after = max(-most, min(most, exponent - round(math.log2(size))))
        if after == exponent:
            break
        exponent = after
    found = torch.autograd.grad(value, call.results, None, True, allow_unused=True) if size == 0 else ()
    if size == 0 and all(g is None for g in found):  # pyright: ignore[reportUnnecessaryComparison]
        raise ValueError(f"the loss does not depend on the layer{hint}")
    return list(given), log  # all zero behind units that are dead


SYMPTOMS = {
    "use_reentrant": "the gradient cannot be followed through a reentrant checkpoint; give it use_reentrant=False",
    "backward through the graph a second time": "the loss has been through backward already; return it before that",
}
"""What autograd says, and what it means here."""


def _steps(run: Run) -> list[tuple[State, Tensor, State, State]]:
    """The run with the graph cut between the steps: the state before, what is read, what the cell makes of them, the
    state after."""
    steps, state = [], run.state
    for t, row in enumerate(run.rows):
        before, row = tuple(s.detach().requires_grad_() for s in state), row.detach().requires_grad_()
        new, state, _ = run.step(t, before, row)
        if not all(s.requires_grad for s in new):  # a gate that is left out is a constant
            new = tuple(s if s.requires_grad else s.detach().requires_grad_() for s in new)
            state = run.masks.after(run.masks.before(before, t), new, t)
        steps.append((before, row, new, state))
    return steps


def walk_back(run: Run, outputs: Scaled, last: Scaled) -> tuple[dict[str, Tensor], Scaled]:
    """The recursion, from the last step to the first, each sequence at its own scale.

    Args:
        run: one layer and direction.
        outputs: (T, B, H), the gradient that its outputs are given from outside.
        last: (B, n), that of its last states side by side.

    Returns:
        `Flow.log10_norm`, and the gradient with respect to what each step reads, (T, B, G*H).
    """
    names, sizes, carried = run.cell.states, [s.size(-1) for s in run.state], last
    curves: dict[str, list[Tensor]] = {name: [] for name in names}
    onward = []
    for (before, row, new, after), value, log in zip(
        reversed(_steps(run)), outputs.value.flip(0), outputs.log.flip(0), strict=True
    ):
        carried = carried + Scaled(F.pad(value, (0, sum(sizes) - sizes[0])), log)
        gradients = torch.autograd.grad(
            after, (*before, *new, row), carried.value.split(sizes, -1), allow_unused=True, materialize_grads=True
        )
        for name, total in zip(names, gradients[len(names) : -1], strict=True):
            norm = torch.linalg.vector_norm(total, dim=-1, dtype=torch.float64)
            curves[name].append((carried.log[:, 0] + norm.log()) / LN10)
        onward.append(Scaled.of(gradients[-1], carried.log))
        carried = Scaled.of(torch.cat(gradients[: len(names)], -1), carried.log)
    onward.reverse()
    d_rows = Scaled(torch.stack([step.value for step in onward]), torch.stack([step.log for step in onward]))
    return {name: torch.stack(curve) for name, curve in curves.items()}, d_rows
