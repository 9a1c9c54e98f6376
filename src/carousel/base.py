"""A layer's tensors, and what code written for torch.nn.LSTM does with them."""

import numbers
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Self

from torch import Tensor, nn

from .cells import Cell
from .cells.cell import with_tensors
from .cells.module import LoadsFromTorch, put, refreshed, view_of
from .engine import Loop, Stack


class Base(LoadsFromTorch, nn.RNNBase):
    """Holds the tensors of the cells of all layers and directions, under torch's names."""

    _loops: tuple[tuple[str, Loop], ...]
    """For each layer and direction, what its tensors' names end in, and the cell over time. In a tuple they are no
    submodules: the tensors stand in the layer alone."""
    _stack: Stack | None = None
    """For torch's own kernels, if torch has such a layer."""

    def _adopt(self, cell: Cell, suffix: str) -> Cell:
        """Take over a cell's tensors; what is left of it is on "meta"."""
        parameters = dict(cell.named_parameters(remove_duplicate=False))
        buffers, saved = dict(cell.named_buffers(remove_duplicate=False)), cell.state_dict()
        for name, parameter in parameters.items():
            self.register_parameter(flat(name, suffix), parameter)
        for name, buffer in buffers.items():
            self.register_buffer(flat(name, suffix), buffer, persistent=name in saved)
        bare = {name: nn.Parameter(p.detach().to("meta"), p.requires_grad) for name, p in parameters.items()}
        return with_tensors(cell, bare | {name: b.to("meta") for name, b in buffers.items()})

    def _tensors_of(self, suffix: str, loop: Loop) -> dict[str, Tensor]:
        """The layer's tensors that a loop's cell is to use, by their names in the cell."""
        return {name: getattr(self, flat(name, suffix)) for name in loop.names}

    def cell(self, layer: int = 0, reverse: bool = False) -> Cell:
        """The cell of one layer and direction, with the layer's own parameters (not copies), to take steps with."""
        suffix, loop = self._loops[layer * (1 + self.bidirectional) + reverse]
        return with_tensors(loop.cell, refreshed(self)._tensors_of(suffix, loop))

    def reset_parameters(self) -> None:
        """Initialise anew, as the cell's `reset_parameters` does."""
        for suffix, loop in self._loops:
            tensors = self._tensors_of(suffix, loop)
            copies = {id(tensor): tensor.detach().clone() for tensor in tensors.values()}
            fresh = {name: copies[id(tensor)] for name, tensor in tensors.items()}
            with_tensors(loop.cell, fresh).reset_parameters()
            for name, tensor in fresh.items():
                put(self, flat(name, suffix), tensor)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, for the cells as well."""
        for _, loop in self._loops:
            loop.train(mode)
        return super().train(mode)

    # RNNBase keeps lists of its weights beside the module's own, up to date; here they are read from the module.
    __setattr__ = nn.Module.__setattr__  # pyright: ignore[reportAssignmentType]  # torch's has no types there
    __setstate__ = nn.Module.__setstate__  # pyright: ignore[reportAssignmentType]
    _replicate_for_data_parallel = nn.Module._replicate_for_data_parallel  # pyright: ignore[reportAssignmentType]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        nn.Module._apply(self, fn, recurse)
        self.flatten_parameters()
        return self

    @property
    def _all_weights(self) -> list[list[str]]:
        """The names of the parameters of each layer and direction."""
        return [[flat(n, suffix) for n, _ in loop.cell.named_parameters()] for suffix, loop in self._loops]

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self) -> tuple[Tensor | None, ...]:
        return tuple(getattr(self, name, None) for name in self._flat_weights_names)

    def flatten_parameters(self) -> None:
        """Put the weights side by side, as cuDNN wants them, where a whole stack runs there; else nothing to do."""
        if self._stack is not None:
            view = view_of(self)
            view.mode = self._stack.function.upper()
            nn.RNNBase.flatten_parameters(view)

    def _init_flat_weights(self) -> None:
        """Nothing to do; here for code written for `torch.nn.LSTM`."""

    _update_flat_weights = _init_flat_weights

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """States, one or nested tuples of them, in another order of the batch."""
        if permutation is None:
            return hx
        if isinstance(hx, Tensor):
            return hx.index_select(1, permutation)
        return tuple(self.permute_hidden(s, permutation) for s in hx)


def flat(name: str, suffix: str) -> str:
    return name.removeprefix("itself.").replace(".", "_") + suffix  # of a `ModuleCell`, the module's own names


def check_arguments(
    input_size: Any, hidden_size: Any, num_layers: int, bias: Any, batch_first: Any, dropout: Any
) -> tuple[int, list[int]]:
    """Refuse what torch.nn.LSTM refuses, in its words; the cell refuses the rest.

    Returns:
        The features of the input, and the units of each layer.
    """
    several = isinstance(hidden_size, Sequence) and not isinstance(hidden_size, str)
    widths: list[Any] = list(hidden_size) if several else [hidden_size] * operator.index(num_layers)
    number = float(dropout)
    if not isinstance(dropout, numbers.Number) or isinstance(dropout, bool) or not 0 <= number <= 1:
        raise ValueError(
            "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
        )
    if number > 0 and num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
            f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
            stacklevel=3,
        )
    for name, value in (("bias", bias), ("batch_first", batch_first)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(value).__name__}")
    for name, size in (("input_size", input_size), *(("hidden_size", width) for width in widths)):
        if not isinstance(size, int):
            raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"{name} must be greater than zero")
    if num_layers <= 0:
        raise ValueError("num_layers must be greater than zero")
    if len(widths) != num_layers:
        raise ValueError(f"hidden_size should be one number or one for each of {num_layers} layers, got {widths}")
    return input_size, widths
