"""A cell's recurrence as one kernel: trace the update, derive its adjoint, emit, build, cache and call it.

```
update(wx, uh, state)          one step, in plain PyTorch
        |
        |  tracer, gather,     run once on tensors that write down what happens to them, units in another order,
        |  elementwise,        products and sums included; autograd runs through the same tensors: the adjoint
        |  products
        v
trace.Step, general.Phases     graphs of expressions in aten's words, for a step with one product, or with any number
        |
        |  early, once         what is made of x alone, or of parameters alone, is left to torch, before all steps,
        |  input_map           but W x, which is a kernel's
        |  storage             which values the forward pass keeps, and which the adjoint makes again from these
        v
target.Kernel                  all steps in one call, by the target for the tensors' device: on the CPU (`cpu`) the
        |                      loops over steps, sequences and units of cpu/*.hpp with the expressions in them,
        |                      compiled, and kept by a hash of source, compiler and processor; on a GPU (`triton`), if
        |                      asked for, functions of Triton
        |  recurrence, phased  what is read of a run, and handed over by the names of `arguments`
        v
carousel::forward, ::backward  operators of torch (op), which autograd, vmap and torch.compile know
```

A kernel holds for all layers whose cells are of one class, with tensors of the same names and shapes, a device, a
dtype, the masks that there are (`carousel.engine.eager.Kinds`), and what else the cell's code reads (`reads`):
attributes, globals, closures. That is read again before each call, and if it has changed, the kernel is another
(`plans`). What a kernel computes is what the loop in `carousel.engine.eager` does; what it cannot do is left to the
loop, and so are derivatives beyond the first; `carousel.explain` says why.

Nothing that takes long is imported before the first plan is made.
"""

from torch import Tensor

from .cpu import CPU
from .target import Target
from .triton import Triton

__all__ = ["TARGETS", "Target", "target_of", "unfit"]

TARGETS: dict[str, Target] = {"cpu": CPU(), "triton": Triton()}
"""By the device whose tensors they take; or by the backend that has to be asked for, and is not taken otherwise."""


def target_of(x: Tensor, backend: str) -> str:
    """Of `TARGETS` the one for an input."""
    if backend in TARGETS:
        return backend
    return "cpu" if x.is_cpu else x.device.type  # which takes ten times as long, in each call


def unfit(x: Tensor, backend: str = "auto") -> str:
    """Why there is no kernel for such an input, or ""."""
    which = target_of(x, backend)
    if which not in TARGETS:
        known = " and ".join(target.name for which, target in TARGETS.items() if which == target.device)
        return f"the kernel is for {known}, not for {which}"
    return TARGETS[which].unfit(x)
