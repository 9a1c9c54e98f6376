"""Cells of others: any module that takes one step, as a cell."""

import copy
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from .cell import Cell, State, _reset

MOST_STATES = 8


class ModuleCell(Cell):
    """A module whose `forward(x, state)` returns the new state, as `torch.nn.LSTMCell`'s does: one tensor (B, H), or a
    tuple of several, of which the first is the output, (B, H), and the others are of any width.

    The whole step is the module's own: it has no gates by name, no projection, and no hidden map that could be told
    apart, for recurrent dropout or detaching. The kernel takes it as it takes other cells' steps; what is made of the
    input alone, or of parameters alone, is done before, by torch.

    Args:
        module: takes one step; its parameters keep their names.
        input_size: features of x_t.
        hidden_size: units, H.
        states: the states' names, or how many there are, if each has H features; or a dictionary of their names and
            features, as {"h": 32, "clock": 1}. If not given, the module is tried out on "meta", where nothing is
            computed, with states of H features.

    Raises:
        TypeError: that does not tell how many states it takes.
        ValueError: the first state does not have H features, or another has none.
    """

    gates = ()

    def __init__(
        self,
        module: nn.Module,
        input_size: int,
        hidden_size: int,
        states: int | Sequence[str] | Mapping[str, int] | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self.itself = module
        self.input_size, self.hidden_size, self.bias, self.proj_size, self.init = input_size, hidden_size, True, 0, ()
        states = self._count() if states is None else states
        if isinstance(states, int):
            names = ("h", "c") if states < 3 else tuple(f"s{k}" for k in range(states))
            states = names[:states]
        self.states = tuple(states)
        self.sizes = tuple(states.values()) if isinstance(states, Mapping) else (hidden_size,) * len(self.states)
        if self.sizes[:1] != (hidden_size,) or not all(isinstance(n, int) and n > 0 for n in self.sizes):
            raise ValueError(f"the first state is the output, of {hidden_size} features; got states={states}")

    @property
    def state_sizes(self) -> tuple[int, ...]:
        return self.sizes

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {}

    def reset_parameters(self) -> None:
        _reset(self.itself)

    def forward(self, input: Tensor, hx: Tensor | State | None = None) -> Tensor | State:
        if hx is None:
            hx = self.initial_state(input)
            hx = hx[0] if len(hx) == 1 else hx
        return self.itself(input, hx)

    def extra_repr(self) -> str:
        alike = set(self.sizes) == {self.hidden_size}
        states = self.states if alike else dict(zip(self.states, self.sizes, strict=True))
        return f"{self.input_size}, {self.hidden_size}, states={states}"

    def _count(self) -> int:
        given = [torch.empty(3, size, device="meta") for size in (self.input_size, self.hidden_size)]
        dtypes = [t.dtype for t in self.itself.parameters() if t.is_floating_point()]
        x, h = (t.to(dtypes[0]) if dtypes else t for t in given)
        for count in range(1, MOST_STATES + 1):
            try:
                with torch.no_grad(), torch.device("meta"), torch.random.fork_rng(devices=[]):
                    new = copy.deepcopy(self.itself).to("meta")(x, h if count == 1 else (h,) * count)
            except Exception:  # whatever the module's own code raises
                continue
            made = [new] if count == 1 else new
            fits = isinstance(made, tuple | list) and len(made) == count
            if fits and all(isinstance(s, Tensor) and s.shape == h.shape for s in made):
                return count
        kind, sizes = type(self.itself).__name__, f"{self.input_size} features and {self.hidden_size} units"
        raise TypeError(
            f"{kind}.forward(x, state) does not return states like those that it is given, with {sizes}; if it does, "
            "say how many there are: states=2, or their names, or their features if these differ: "
            'states={"h": 8, "clock": 1}'
        )


def of_modules(
    module: Any, input_size: int | None, hidden_size: Any, single: bool
) -> tuple[Callable[..., Cell], dict[str, Any], int, Any]:
    """How to make the cells of a layer of modules, from their sizes and options; the options; and the layer's sizes.

    Args:
        module: a class of modules, made with `(input_size, hidden_size, ...)`; or one module, for a layer with a
            `single` cell, which takes over its parameters.
        input_size, hidden_size: of the layer; None leaves them to the module's attributes of these names.

    Raises:
        TypeError: it is neither, or a size is missing.
        ValueError: a size, or the number of cells, is not the module's; or it cannot have such an option.
    """
    kind = module if isinstance(module, type) else type(module)
    if not issubclass(kind, nn.Module) or isinstance(module, Cell):
        raise TypeError(f"cell should be a subclass of carousel.Cell, or a module with forward(x, state), got {module}")
    sizes: dict[str, Any] = {"input_size": input_size, "hidden_size": hidden_size}
    for name, size in sizes.items():
        told = None if module is kind else getattr(module, name, None)
        sizes[name] = told if size is None else size
        if sizes[name] is None:
            raise TypeError(f"{name} is missing, and {kind.__name__} does not tell it")
        if told is not None and told != sizes[name]:
            raise ValueError(f"{name} is {sizes[name]}, but {kind.__name__} has {told}")
    if module is not kind and not single:
        raise ValueError(f"one {kind.__name__} makes one layer in one direction; give its class to have more of them")
    takes = signature(kind).parameters if module is kind else {}

    def make(input_size: int, hidden_size: int, *, states: Any = None, proj_size: int = 0, **options: Any) -> Cell:
        if proj_size:
            raise ValueError(f"proj_size: {kind.__name__} has no projection that is known")
        if isinstance(module, nn.Module):
            if not options.pop("bias") or any(value is not None for value in options.values()):
                raise ValueError(f"bias, device and dtype are {kind.__name__}'s own")
            return ModuleCell(module, input_size, hidden_size, states)
        device, dtype = options["device"], options["dtype"]
        if not options["bias"] and "bias" not in takes:
            raise ValueError(f"bias: {kind.__name__} does not take it")
        made = kind(input_size, hidden_size, **{name: value for name, value in options.items() if name in takes})
        return ModuleCell(made.to(device, dtype), input_size, hidden_size, states)

    return make, {"states": None} | dict(takes), sizes["input_size"], sizes["hidden_size"]
