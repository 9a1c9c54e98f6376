"""The contract that a cell fulfils: what happens in ONE time step, and nothing about time."""

import math
import operator
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from .module import LoadsFromTorch, M, fill, options_of, refreshed, show_options, view_of
from .torch_step import torch_step

State = tuple[Tensor, ...]
Initializer = Callable[["Cell"], None]


def with_tensors(module: M, tensors: dict[str, Tensor], prefix: str = "") -> M:
    """A view of `module` with these parameters and buffers, by their full names, as of a functional call; the module
    itself is left alone."""
    view = view_of(module)
    for kind in ("_parameters", "_buffers"):
        found = {name: tensors.get(prefix + name) for name in module.__dict__[kind]}
        object.__setattr__(view, kind, found)
    parts = module._modules.items()
    inner = {name: None if part is None else with_tensors(part, tensors, f"{prefix}{name}.") for name, part in parts}
    object.__setattr__(view, "_modules", inner)
    return view


def signed(gate: str) -> tuple[str, bool]:
    """The gate that is named by `Cell.keep_gate` or `write_gate`, and whether it is one minus that gate."""
    name = gate.replace(" ", "")
    return name.removeprefix("1-"), name.startswith("1-")


def _initializers(init: Any) -> tuple[Initializer, ...]:
    if callable(init) or not isinstance(init, Iterable) or isinstance(init, str):
        init = (init,)
    several: tuple[Any, ...] = tuple(init)
    for one in several:
        if isinstance(one, type) or not callable(one):
            shown = f"the class {one.__name__}; write {one.__name__}(...)" if isinstance(one, type) else repr(one)
            raise TypeError(f"init should be an initializer, such as initialization.Orthogonal(), got {shown}")
    return several


def _reset(module: nn.Module) -> None:
    """Reset a module by its own `reset_parameters`, or if it has none what is in it."""
    if (reset := getattr(module, "reset_parameters", None)) is not None:
        reset()
        return
    for child in module.children():
        _reset(child)


class Cell(LoadsFromTorch, nn.RNNCellBase):
    r"""One step of a recurrent network, in three parts that an engine may schedule as it likes.

    | part | | |
    | --- | --- | --- |
    | `input_map` | :math:`W x_t + b_W` | independent of the state: one product for all time steps |
    | `hidden_map` | :math:`U h_{t-1} + b_U` | the matrix product inside the recurrence |
    | `update` | mostly elementwise | new state from the two maps and the old state |

    A new cell names its `gates` (and its `states`, if it has more than `h`) and writes `update`, in plain
    PyTorch; autograd supplies the derivative. Override the maps only where they are not the usual linear ones, and
    `shapes` to have more of them. `update` should be pure. The kernel takes it where it is elementwise over the hidden
    units but for products with the cell's matrices, or with what is made of these alone, by heads too, sums, means or
    maxima over the units of all or of each head, and units that change places; any other code still runs, eagerly. A
    cell whose step does not fit into the three parts overrides `forward`, of which the same holds.

    Called as a module, a cell takes one step with the interface of `torch.nn.LSTMCell` and its siblings, and it is an
    `nn.RNNCellBase` as they are.

    Args:
        input_size: features of x_t.
        hidden_size: units, H.
        bias: whether the two linear maps have biases.
        init: an initializer, or several applied in turn, such as `carousel.initialization.ForgetBias(1.0)`; they run
            after `draw`, which is torch's default, U(-1/sqrt(H), 1/sqrt(H)) for every parameter.
        proj_size: if not 0, h is projected to this size at the end of each step (Sak et al. 2014, eq. 7), for cells
            whose `update` does not read the old h.

    Shapes: `weight_ih` (G*H, input_size), `weight_hh` (G*H, H), `bias_ih` and `bias_hh` (G*H,), for G gates; with
    a projection to P units `weight_hh` is (G*H, P), `weight_hr` (P, H), and h (B, P).

    Raises:
        TypeError: a size is no integer, `init` no initializer, or there is no such option; or the class has no `gates`.
        ValueError: a size is negative, or an initializer does not apply to this cell.
    """

    gates: tuple[str, ...]
    """The blocks of H rows in the weights, in order."""
    states: tuple[str, ...] = ("h",)
    """The names of the state's tensors; the first is the output, and what `hidden_map` sees."""
    keep_gate: str | None = None
    """What multiplies the old state, if there is such a thing: a gate by its name ("f" in an LSTM, "z" in torch's GRU),
    or one minus a gate ("1 - f" in an MGU)."""
    write_gate: str | None = None
    """What multiplies the new content, in the same way, where that is a gate of its own ("i" in an LSTM)."""
    normalised: ClassVar[bool] = False
    """Whether these two are divided by their sum."""
    held: ClassVar[tuple[tuple[str, ...], ...] | None] = None
    """The states that zoneout may hold back, those of a group together; None: all, each by itself."""
    gate_biases: tuple[str, ...] = ("bias_ih", "bias_hh")
    """The parameters (G*H,), those of them that there are, of which the sum is what a gate opens to at zero input and
    state."""
    has_hidden_map: ClassVar[bool] = True
    """Whether the step has a product with the old h; a cell without one has neither `weight_hh` nor `bias_hh`, and its
    `update` is given a `uh` of no blocks."""
    projectable: ClassVar[bool] = False
    """Whether `update` leaves the old h alone, so that h may be projected to another size."""
    torch_modules: ClassVar[tuple[type[nn.Module], type[nn.Module]] | None] = None
    """The same cell, and the same layer, in torch.nn."""

    if TYPE_CHECKING:  # the parameters of `shapes`; of a cell without biases these are None

        def __getattr__(self, name: str) -> Tensor: ...

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        init: Initializer | Iterable[Initializer] = (),
        proj_size: int = 0,
        **unknown: Any,
    ) -> None:
        nn.Module.__init__(self)
        kind = type(self).__name__
        if unknown:
            raise TypeError(f"{kind} has no option {', '.join(unknown)}; it takes {', '.join(options_of(type(self)))}")
        self._check_class()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if not hasattr(size, "__index__"):
                raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
            if size < 0:  # torch's cells take 0
                raise ValueError(f"{name} must not be negative, got {size}")
        if proj_size and not self.projectable:
            only = "LSTM and cells that are projectable"
            raise ValueError(f"proj_size argument is only supported for {only}, {kind} is not")
        if proj_size < 0:
            raise ValueError("proj_size should be a positive integer or zero to disable projections")
        if proj_size and proj_size >= hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")
        self.input_size, self.hidden_size = operator.index(input_size), operator.index(hidden_size)
        self.bias, self.proj_size = bias, proj_size
        self.init = _initializers(init)
        for name, shape in self.shapes().items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        if not bias:
            self.__dict__.update(bias_ih=None, bias_hh=None)
        self.reset_parameters()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters, in torch's order. A cell with more of them adds to these."""
        rows = len(self.gates) * self.hidden_size
        features = {"ih": self.input_size} | ({"hh": self.output_size} if self.has_hidden_map else {})
        shapes = {f"weight_{name}": (rows, size) for name, size in features.items()}
        shapes |= {f"bias_{name}": (rows,) for name in features} if self.bias else {}
        return shapes | ({"weight_hr": (self.proj_size, self.hidden_size)} if self.proj_size else {})

    @property
    def output_size(self) -> int:
        """Features of h."""
        return self.proj_size or self.hidden_size

    def reset_parameters(self) -> None:
        """Draw the parameters of `shapes` anew, in torch's order, then apply `init`.

        Modules within the cell are reset by their own `reset_parameters`. Whatever else a cell's author has registered
        keeps its value, unless the author overrides this.
        """
        shapes = self.shapes()
        for name, parameter in self.named_parameters():
            if name in shapes or name.startswith("parametrizations."):
                self.draw(name, parameter)
        for child in self.children():
            _reset(child)
        for initializer in self.init:
            initializer(self)

    def draw(self, name: str, parameter: Tensor) -> None:
        """Give one parameter of `shapes` its first value, in place: here torch's, U(-1/sqrt(H), 1/sqrt(H))."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size else 0
        nn.init.uniform_(parameter, -bound, bound)

    def rows(self, gate: str) -> slice:
        """The rows of the weights and biases that belong to `gate`.

        Raises:
            ValueError: the cell has no such gate.
        """
        if gate not in self.gates:
            raise ValueError(f"{type(self).__name__} has no gate {gate!r}, only {', '.join(self.gates)}")
        k = self.gates.index(gate)
        return slice(k * self.hidden_size, (k + 1) * self.hidden_size)

    def input_map(self, x: Tensor) -> Tensor:
        """(..., input_size) -> (..., G*H)."""
        return F.linear(x, self.weight_ih, self.bias_ih)

    def hidden_map(self, h: Tensor) -> Tensor:
        """(..., H) -> (..., G*H), or (..., 0) of a cell without one."""
        return F.linear(h, self.weight_hh, self.bias_hh) if self.has_hidden_map else h[..., :0]

    def update(self, wx: Tensor, uh: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        """The cell's equations.

        Args:
            wx: (..., G*H), the input map of x_t.
            uh: (..., G*H), the hidden map of h_{t-1}.
            state: one tensor (..., H) for each name in `states`.

        Returns:
            The new state, and the gates' values by name, each (..., H), for whoever wants to look at them.
        """
        raise NotImplementedError(f"{type(self).__name__} has no update, which is what happens in one step")

    def step(self, wx: Tensor, state: State, hidden_input: Tensor | None = None) -> tuple[State, dict[str, Tensor]]:
        """One step, as `update`; `hidden_input` (..., H) is what the hidden map is given in place of h_{t-1}.

        Raises:
            TypeError: the class's `update` does not return what it should.
        """
        returned = self.update(wx, self.hidden_map(state[0] if hidden_input is None else hidden_input), state)
        if "_checked" not in self.__dict__ and not torch.compiler.is_compiling():
            self.check_update(returned, state)
            self.__dict__["_checked"] = True  # once is enough
        new, gates = returned
        return (self.project(new) if self.proj_size else new), gates

    def project(self, state: State) -> State:
        """The recurrent projection of h, (..., H) -> (..., proj_size); the other states stay as they are."""
        return (F.linear(state[0], self.weight_hr), *state[1:])

    def initial_state(self, x: Tensor) -> State:
        """What a sequence begins with, given its first input, (..., features) -> (..., H) for each state: zeros. A cell
        may override it, with parameters of its own; it then takes no `reset` in mid-sequence."""
        return tuple(x.new_zeros(*x.shape[:-1], size) for size in self.state_sizes)

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Features of each state."""
        return (self.output_size, *[self.hidden_size] * (len(self.states) - 1))

    def forward(self, input: Tensor, hx: Tensor | State | None = None) -> Tensor | State:
        """One step: (B, input_size) or (input_size,) -> (B, H) or (H,), a tuple of them if there are several states.

        Raises:
            ValueError: `input` or a state is neither 1D nor 2D.
            RuntimeError: the features or the batch do not fit, or there are not as many states as the cell has.
        """
        if input.dim() not in (1, 2):
            raise ValueError(f"{type(self).__name__}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        if (made := torch_step(self, input, hx)) is not None:
            return made
        state = self.initial_state(input) if hx is None else (hx,) if isinstance(hx, Tensor) else tuple(hx)
        self._check(input, state)
        state, _ = self.step(self.input_map(input), state)
        return state[0] if len(state) == 1 else state

    def torch_module(self, which: int, **options: Any) -> Any:
        """The module of torch.nn with this cell's options: `which` of `torch_modules`, 0 the cell, 1 the layer.

        Raises:
            ValueError: there is none.
        """
        kind = type(self).__mro__[1] if is_parametrized(self) else type(self)
        if "torch_modules" not in vars(kind) or self.torch_modules is None:  # a subclass has other equations
            raise ValueError(f"torch.nn has no {kind.__name__}")
        options |= {"proj_size": self.proj_size} if self.proj_size else {}
        return self.torch_modules[which](self.input_size, self.hidden_size, bias=self.bias, **options)

    def to_torch(self) -> nn.Module:
        """The counterpart in torch.nn, with copies of the weights.

        Raises:
            ValueError: torch.nn has no such cell.
        """
        if self.proj_size:
            raise ValueError("torch.nn.LSTMCell has no projection")
        view = refreshed(self)
        torchs = self.torch_module(0, device="meta")
        fill(torchs, {name: getattr(view, name) for name in torchs.state_dict()})
        return torchs.train(self.training)

    def _check(self, input: Tensor, state: State) -> None:
        """What torch's cells refuse, in their words."""
        if len(state) != len(self.states):
            raise RuntimeError(f"Expected {len(self.states)} states {self.states}, got {len(state)}")
        for k, s in enumerate(state):
            if s.dim() not in (1, 2):
                what = f"hx[{k}]" if len(state) > 1 else "hidden"
                raise ValueError(f"{type(self).__name__}: Expected {what} to be 1D or 2D, got {s.dim()}D instead")
        if input.size(-1) != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {input.size(-1)} expected {self.input_size}")
        batch = input.size(0) if input.dim() == 2 else 1
        for k, (s, size) in enumerate(zip(state, self.state_sizes, strict=True)):
            got, *width = (1, *s.shape) if input.dim() == 1 else s.shape
            if got != batch:
                raise RuntimeError(f"Input batch size {batch} doesn't match hidden{k} batch size {got}")
            if width != [size]:
                shown = width[0] if width else "none"
                raise RuntimeError(f"hidden{k} has inconsistent hidden_size: got {shown}, expected {size}")

    def _check_class(self) -> None:
        kind = type(self).__name__
        if not hasattr(self, "gates"):
            raise TypeError(
                f'{kind} should name its gates, one for each block of weights, as in gates = ("f", "g", "o")'
            )
        for name in ("gates", "states"):
            if isinstance(getattr(self, name), str):
                raise TypeError(f"{kind}.{name} should be a tuple of names, got {getattr(self, name)!r}")
        for name in ("keep_gate", "write_gate"):
            gate = getattr(self, name)
            if gate is not None and signed(gate)[0] not in self.gates:
                raise ValueError(f"{kind}.{name} should be one of the gates {', '.join(self.gates)}, got {gate!r}")

    def check_update(self, returned: Any, state: State) -> None:
        """Raise a TypeError if that is not what `update` should make of `state`."""
        if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], dict):
            new = returned[0]
            if isinstance(new, tuple | list) and len(new) == len(state):
                wide = (*state[0].shape[:-1], self.hidden_size) if self.proj_size else state[0].shape
                expected = [wide, *[s.shape for s in state[1:]]]
                if all(isinstance(s, Tensor) and s.shape == shape for s, shape in zip(new, expected, strict=True)):
                    return
        raise TypeError(
            f"{type(self).__name__}.update should return (({', '.join(self.states)},), gates): a tuple of the new "
            f"states, each (..., {self.hidden_size}) as the old one, and a dictionary of the gates' values by name; "
            f"it returned {_describe(returned)}"
        )

    def extra_repr(self) -> str:
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *show_options(self)])


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"({', '.join(_describe(part) for part in value)})"
    return f"{{{', '.join(map(repr, value))}}}" if isinstance(value, dict) else repr(value)
