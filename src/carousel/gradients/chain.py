"""A run as a chain of linear maps: each step's Jacobian at the state that the step began with, in float64."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from ..cells import Cell
from ..cells.cell import with_tensors
from .runs import Run


class Chain:
    r"""The Jacobians :math:`J_t = \partial s_{t+1}/\partial s_t` of a run, s being all of the cell's states side by
    side (for an LSTM h and c), masks included. They are applied to vectors, n in a state and k side by side.

    It goes through the run again in float64, whatever the layer's dtype: what multiplies up over hundreds of steps is
    not to be the rounding of float32.

    Raises:
        ValueError: a state is not finite.
    """

    def __init__(self, run: Run) -> None:
        self.run = _double(run)
        self.sizes = [s.size(-1) for s in run.state]
        self.states = [torch.cat(self.run.state, -1)]  # (B, n) each, before each step
        for t in range(len(run.rows) - 1):
            self.states.append(self._step(t, self.states[-1]))
        if not self.states[-1].isfinite().all():
            raise ValueError("the layer's state is not finite")

    def __len__(self) -> int:
        return len(self.states)

    def frame(self, k: int) -> Tensor:
        """k orthonormal directions at random, the same in every call: (B, n, k)."""
        s = self.states[0]
        draw = torch.randn(s.size(-1), k, dtype=s.dtype, generator=torch.Generator().manual_seed(0))
        return torch.linalg.qr(draw.to(s.device)).Q.expand(len(s), -1, -1)

    def push(self, t: int, v: Tensor) -> Tensor:
        """J_t v: (B, n, k) -> (B, n, k), at the cost of one step of k*B sequences."""
        step = partial(self._step, t)
        return vmap(lambda v: jvp(step, (self.states[t],), (v,))[1], -1, -1)(v)

    def pull(self, t: int, v: Tensor) -> Tensor:
        """J_t^T v: (B, n, k) -> (B, n, k)."""
        back = vjp(partial(self._step, t), self.states[t])[1]
        return vmap(lambda v: back(v)[0], -1, -1)(v)

    def _step(self, t: int, s: Tensor) -> Tensor:
        return torch.cat(self.run.step(t, s.split(self.sizes, -1))[1], -1)


def growth(r: Tensor) -> Tensor:
    """By how much each direction of a frame grew in a step, for R of the QR of what the step made of it: the logarithms
    of its diagonal, (B, k, k) -> (B, k); -inf where nothing but rounding is left."""
    grown = r.diagonal(dim1=-2, dim2=-1).abs()
    rounding = r.size(-1) * torch.finfo(r.dtype).eps * r.norm(dim=-2)
    return torch.where(grown > rounding, grown, 0.0).log()


def double(cell: Cell, device: str | None = None) -> Cell:
    """A cell with copies of its parameters and buffers in float64, apart from any graph, there or where they are."""
    named = (*cell.named_parameters(remove_duplicate=False), *cell.named_buffers(remove_duplicate=False))
    tensors = {name: t.detach().to(device=device) for name, t in named}
    return with_tensors(cell, {name: t.double() if t.is_floating_point() else t for name, t in tensors.items()})


def _double(run: Run) -> Run:
    masks = run.masks._replace(detach_gates=False, detach_carousel=False)  # these change the gradient, not the map
    rows, state = (tuple(t.double() for t in tensors) for tensors in (run.rows, run.state))
    return replace(run, cell=double(run.cell), rows=rows, state=state, masks=masks)
