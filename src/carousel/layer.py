"""Any cell as a layer with the interface of `torch.nn.LSTM`."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.utils.rnn import PackedSequence
from torch.nn.utils.stateless import _reparametrize_module

from . import engine, layout, packing, whole
from .base import Base, check_arguments, flat
from .cells import Cell
from .cells.cell import State, with_tensors
from .cells.foreign import of_modules
from .cells.module import fill, options_of, refreshed, show_options, view_of
from .engine import Loop, Masks, Norms
from .regularization import NOTHING, Detach, Regularization


class Recurrent(Base):
    """A recurrent layer: the cell knows one step, the layer owns time.

    Everything that `torch.nn.LSTM` documents, for any cell. The parameters are the layer's own, under torch's names
    (`weight_ih_l0`, `weight_ih_l0_reverse`, ...) and in torch's order, so that the `state_dict` of its counterpart in
    `torch.nn` loads as it is, both ways; with the same seed the two also start from the same numbers.

    It is an `nn.RNNBase`, with the names that code for these goes by: `all_weights`, `_all_weights`, `_flat_weights`,
    `check_input`, `permute_hidden`, ... They only read the module: a weight is replaced by its name, and overriding one
    of the checks changes nothing. It is no `nn.LSTM`, `nn.GRU` or `nn.RNN`, which torch.compile refuses to trace: what
    asks for one of these by its class, as quantization, pruning by structure and `call_for_per_sample_grads` do, is
    given `to_torch()`.

    Args:
        cell: a subclass of `Cell`; or a module, or a class of modules, whose `forward(x, state)` returns the new state,
            as torch.nn.LSTMCell's does (see `cells.ModuleCell`).
        input_size: features of x_t; a module may tell it, and the hidden size, as an attribute of this name.
        hidden_size: units, H; or a list with one number for each layer.
        num_layers: layers stacked, each reading the outputs of the one below.
        bias: whether the cell has biases.
        batch_first: (batch, seq, feature) in place of (seq, batch, feature), for input and output alike.
        dropout: probability of an element being zeroed between the layers.
        bidirectional: whether each layer also runs backwards in time; the two outputs are concatenated.
        proj_size: size of the projected output, 0 for none (Sak et al. 2014); for cells that can be projected.
        residual: whether each layer above the first adds its input to its output.
        regularization: variational dropout, zoneout, DropConnect: see `Regularization`.
        detach: stops the gradient through the gates or along the carousel: see `Detach`.
        backend: "eager" for the loop composed with autograd, "fused" for one compiled kernel, "torch" for torch's own,
            where the cell is one that torch has. "auto" is the fastest of those that can run the call: torch's for
            short sequences, off the CPU, in half precision, under autocast and in exports. Under autocast results of
            the others have its type too, as nn.LSTM's, or on a CPU a GRU's the input's, as nn.GRU's. `carousel.explain`
            says which it is, and why. cuDNN has no second derivatives; "eager" does. "triton" is the compiled kernel on
            a GPU, where it has not been run yet: it is never taken unless asked for.
        options: whatever else the cell takes, such as `init`.

    Raises:
        TypeError, ValueError: as torch.nn.LSTM and the cell's constructor; or the widths do not fit each other.
    """

    hidden_size: Any  # int, or a sequence of them, one for each layer
    _norms: list[Norms] | None = None  # where `gradients.watch` finds the gradients' norms, one for each loop

    def __init__(
        self,
        cell: type[Cell] | nn.Module | type[nn.Module],
        input_size: int | None = None,
        hidden_size: int | Sequence[int] | None = None,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        residual: bool = False,
        regularization: Regularization | None = None,
        detach: Detach | None = None,
        backend: str = "auto",
        **options: Any,
    ) -> None:
        nn.Module.__init__(self)
        if isinstance(cell, type) and issubclass(cell, Cell):
            make, takes, projectable = cell, options_of(cell), cell.projectable
        else:
            single = num_layers == 1 and not bidirectional
            make, takes, input_size, hidden_size = of_modules(cell, input_size, hidden_size, single)
            projectable = False
        allowed = options_of(type(self)) | takes
        if unknown := options.keys() - allowed.keys():
            names = [name for name in allowed if name != "cell" and (name != "proj_size" or projectable)]
            wrong = ", ".join(sorted(unknown))
            raise TypeError(f"{type(self).__name__} has no option {wrong}; it takes {', '.join(names)}")
        size, widths = check_arguments(input_size, hidden_size, num_layers, bias, batch_first, dropout)
        several = not isinstance(hidden_size, int)
        if backend not in engine.BACKENDS:
            raise ValueError(f"backend should be one of {', '.join(engine.BACKENDS)}, got {backend!r}")
        self.input_size, self.hidden_size, self.num_layers = size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size, self.residual = bidirectional, proj_size, residual
        for name, value, kind in (("regularization", regularization, Regularization), ("detach", detach, Detach)):
            if not isinstance(value, kind | None):
                raise TypeError(f"{name} should be a carousel.{kind.__name__}, got {value!r}")
        self.regularization, self.detach = regularization or NOTHING[0], detach or NOTHING[1]
        self.backend = backend
        options |= {"proj_size": proj_size} if proj_size else {}

        loops: dict[str, Loop] = {}
        for k, width in enumerate(widths):
            for suffix in (f"_l{k}", f"_l{k}_reverse") if bidirectional else (f"_l{k}",):
                new = make(size, width, bias=bias, device=device, dtype=dtype, **options)
                loops[suffix] = Loop(self._adopt(new, suffix))
            made = loops[f"_l{k}"].cell
            self.regularization.zoneouts(made)
            above = (1 + bidirectional) * made.output_size
            if residual and k > 0 and above != size:
                raise ValueError(f"residual needs layers of one width, got {widths}")
            size = above
        self._loops = tuple(loops.items())
        function = "" if several else loops["_l0"].function
        names = tuple(flat(name, suffix) for suffix, loop in self._loops for name in loop.names)
        self._stack = engine.Stack(function, names, loops["_l0"].cell.state_sizes) if function else None
        # How many loops' states are stacked in one tensor: all, unless the layers differ in width.
        self._group = 1 + bidirectional if several else len(loops)
        self.flatten_parameters()

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles are made of: they are not watched, if this is."""
        return {name: value for name, value in self.__dict__.items() if name != "_norms"}

    @property
    def output_size(self) -> int:
        """Features of the output: of h, for each direction."""
        return (1 + self.bidirectional) * self._loops[-1][1].cell.output_size

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | State | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor | PackedSequence, Tensor | State]:
        """Run over a sequence.

        Args:
            input: (T, B, input_size), or (B, T, input_size) with `batch_first`, or (T, input_size) for one sequence,
                or a PackedSequence.
            hx: the state before the first step; if None, the cell's `initial_state`, mostly zeros. (L * D, B, H) for L
                layers and D directions, or (L * D, H) for one sequence; a tuple of them, in the order of the cell's
                `states`, if it has several, as nn.LSTM's (h_0, c_0). If the layers differ in width, a tuple of L such
                things, each (D, B, H_l).
            lengths: (B,), the steps of each sequence; what lies beyond is padding: it is not read, the output there is
                zero, and the last state is that of the last real step. The same as packing the input.
            reset: (T, B) bool, laid out as the input: where True, a new sequence begins, with zero state, in both
                directions.

        Returns:
            h_t of every step, laid out as the input, and the last state, laid out as `hx`: forwards that after the last
            step, backwards that after the first. In a batch padded on the left, with `reset` where the sequences begin,
            the last state backwards is therefore the padding's; a sequence's own is the output at its first step.

        Raises:
            ValueError: `input` is neither 2D nor 3D, or not of the weights' dtype; `lengths` or `reset` do not fit it,
                or the latter not the cell, which begins with other states than zeros.
            RuntimeError: the number of features or the state's shape is wrong, or the sequence is empty; or
                `backend` is "fused", "torch" or "triton", and that cannot run this.
        """
        if isinstance(input, Proxy) and type(self).forward is Recurrent.forward:  # torch.fx: a leaf, as torch's own
            tracer: Any = input.tracer
            path = tracer.path_of_module(self)
            return tracer.create_proxy("call_module", path, *_arguments(input, hx, lengths, reset))
        stack = self._stack
        if reset is None and stack is not None and (found := whole.run(self, stack, input, hx, lengths)) is not None:
            return found
        output, state, _ = self._run(input, hx, lengths, reset)
        return output, state

    def inspect(
        self,
        input: Tensor,
        hx: Tensor | State | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        reset: Tensor | None = None,
    ) -> list[dict[str, Tensor]]:
        """Every gate and every state of every step, by name, each laid out as the output.

        For an LSTM: i, f, g, o, h and c. One dictionary for each layer and direction, in the order of torch's states:
        layer 0, layer 0 reversed, layer 1, ... Arguments and errors as in `forward`; for packed input give `lengths`.
        Where a kernel has given the states, a backward pass through the record runs the loop.
        The module's hooks see a call of it, and do to it what they do.
        """
        seen: list[dict[str, Tensor]] = []

        def forward(input: Any, hx: Any = None, *, lengths: Any = None, reset: Tensor | None = None) -> Any:
            output, state, records = view._run(input, hx, lengths, reset, record=True)
            seen.extend(records)
            return output, state

        view = view_of(self)  # so that other threads may call the layer meanwhile
        view.forward, view._norms = forward, None
        args, kwargs = _arguments(input, hx, lengths, reset)
        nn.Module._call_impl(view, *args, **kwargs)  # as it is, where `__call__` may have been compiled
        return seen

    def _run(
        self, input: Any, hx: Any, lengths: Any, reset: Tensor | None, record: bool = False
    ) -> tuple[Any, Any, list[dict[str, Tensor]]]:
        """As `forward`, with the record that `inspect` gives."""
        packed = isinstance(input, PackedSequence)
        batched = packed or input.dim() == 3
        if packed:
            if lengths is not None:
                raise ValueError("lengths goes with padded input, not with a PackedSequence")
            x, lengths = packing.unpack(input)
        else:
            self._check_rank(input)
            x = self._flip(input) if batched else input.unsqueeze(1)  # (T, B, I)
        self._check_input(x)
        if lengths is not None:
            lengths = packing.check_lengths(lengths, x)
            x = x.masked_fill(packing.active(lengths, x.size(0), torch.bool).logical_not(), 0.0)  # it may hold anything
        if reset is not None:
            packing.check_reset(reset, input)
            reset = self._flip(reset) if batched else reset.unsqueeze(1)  # (T, B)
        cells = [loop.cell for _, loop in self._loops]
        if reset is not None and type(cells[0]).initial_state is not Cell.initial_state:
            kind = type(cells[0]).__name__
            raise ValueError(f"reset begins anew with zeros, {kind} with an initial_state: run its sequences apart")
        states = layout.split_states(hx, cells, self._group, x, batched)

        lasts: list[State] = []
        records: list[dict[str, Tensor]] = []
        for k in range(self.num_layers):
            outputs: list[Tensor] = []
            for reverse in range(1 + self.bidirectional):
                y, last, kept = self._run_one(len(lasts), x, states[len(lasts)], lengths, reset, bool(reverse), record)
                outputs.append(y)
                lasts.append(last)
                records.append(kept)
            y = torch.cat(outputs, -1) if self.bidirectional else outputs[0]
            y = y + x if self.residual and k > 0 else y
            x = F.dropout(y, self.dropout, self.training) if k < self.num_layers - 1 else y

        def arrange(y: Tensor) -> Tensor:  # (T, B, H), laid out as the input
            return self._flip(y) if batched else y.squeeze(1)

        # As torch's: of a GRU, on a CPU, nothing is cast.
        if engine.autocasts(x) and x.dtype != torch.float64 and not (x.is_cpu and self._loops[0][1].function == "gru"):
            x = x.to(torch.get_autocast_dtype(x.device.type))
            lasts = [tuple(s.to(x.dtype) for s in last) for last in lasts]
        output = packing.pack(x, input) if packed else arrange(x)
        return (
            output,
            layout.join_states(lasts, self._group, batched),
            [{n: arrange(y) for n, y in kept.items()} for kept in records],
        )

    def _run_one(
        self,
        k: int,
        x: Tensor,
        state: State | None,
        lengths: Tensor | None,
        reset: Tensor | None,
        reverse: bool,
        record: bool,
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        """One layer in one direction: (T, B, I) -> (T, B, H), its last state, its record."""
        suffix, loop = self._loops[k]
        noise = self.regularization
        tensors = noise.drop_weight(self._tensors_of(suffix, loop), self.training)
        x = noise.drop_input(x, self.training)
        if reverse:
            x = packing.reverse(x, lengths)
            reset = None if reset is None else packing.reverse_reset(reset, lengths)
        state = _first_state(loop.cell, tensors, x[0]) if state is None else state
        update_masks = noise.update_masks(loop.cell, state, x.size(0), self.training)
        real = None if lengths is None else packing.active(lengths, x.size(0), x.dtype)  # (T, B, 1)
        if real is not None:
            update_masks = [real if mask is None else real * mask for mask in update_masks]
        if reset is not None:
            reset = reset.unsqueeze(-1) if real is None else reset.unsqueeze(-1) & real.bool()  # never in the padding
        masks = Masks(
            reset=reset,
            recurrent=noise.recurrent_mask(state[0], self.training),
            update_mask=tuple(update_masks) if any(mask is not None for mask in update_masks) else (),
            real=real,
            **(self.detach.masks(x.size(0), x.device) if self.training or torch.is_grad_enabled() else {}),
        )
        arguments = (loop, tensors, x, state, masks, record, self.backend)
        if self._norms is None:
            y, last, kept = engine.run(*arguments)
        else:
            y, last, kept = engine.watched(self._norms, *arguments)
        y = y if real is None else y * real
        if reverse:
            y, kept = packing.reverse(y, lengths), {n: packing.reverse(v, lengths) for n, v in kept.items()}
        return y, last, kept

    def _flip(self, x: Tensor) -> Tensor:
        """Between the caller's layout and (T, B, ...)."""
        return x.transpose(0, 1) if self.batch_first else x

    def _check_rank(self, input: Tensor) -> None:
        if input.dim() not in (2, 3):
            raise ValueError(f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.dim()}D instead")

    def _check_input(self, x: Tensor) -> None:
        """What torch.nn.LSTM refuses, in its words."""
        dtype = getattr(self, flat("weight_ih", "_l0"), x).dtype
        if x.dtype != dtype and not engine.autocasts(x):
            raise ValueError(
                f"RNN input dtype ({x.dtype}) does not match weight dtype ({dtype}). "
                f"Convert input: input.to({dtype}), or convert model: model.to({x.dtype})"
            )
        if x.size(-1) != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.size(-1)}"
            )
        if x.size(0) == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")

    def to_torch(self) -> nn.RNNBase:
        """The counterpart in torch.nn, with copies of the weights.

        Raises:
            ValueError: torch.nn has no such cell, or not what this layer adds to one.
        """
        cell = self._loops[0][1].cell
        extras = {"layers of different widths": self._group < len(self._loops), "residual connections": self.residual}
        extras["regularization"] = self.regularization != Regularization()
        extras["detach"] = self.detach != Detach()
        if lacks := [what for what, present in extras.items() if present]:
            raise ValueError(f"torch.nn has no {' or '.join(lacks)}")
        options = {name: getattr(self, name) for name in ("num_layers", "batch_first", "dropout", "bidirectional")}
        torchs, view = cell.torch_module(1, **options, device="meta"), refreshed(self)
        fill(torchs, {name: getattr(view, name) for name in torchs.state_dict()})
        torchs.flatten_parameters()
        return torchs.train(self.training)

    def extra_repr(self) -> str:
        shown = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0,
            "bidirectional": False,
        }
        shown |= {"residual": False, "regularization": Regularization(), "detach": Detach(), "backend": "auto"}
        parts = [f"{k}={getattr(self, k)}" for k, default in shown.items() if getattr(self, k) != default]
        cell = self._loops[0][1].cell
        parts += [option for option in show_options(cell) if not hasattr(self, option.partition("=")[0])]
        kind = [] if hasattr(self, "mode") else [type(getattr(cell, "itself", cell)).__name__]
        return ", ".join([*kind, f"{self.input_size}, {self.hidden_size}", *parts])


def _arguments(input: Any, hx: Any, lengths: Any, reset: Tensor | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call's arguments as one would write it."""
    kwargs = {name: value for name, value in (("lengths", lengths), ("reset", reset)) if value is not None}
    return ((input,) if hx is None else (input, hx)), kwargs


def _first_state(cell: Cell, tensors: dict[str, Tensor], x: Tensor) -> State:
    """What a cell with an `initial_state` of its own begins with, given its first input (B, I)."""
    if torch.compiler.is_dynamo_compiling():  # it cannot follow the making of a view
        with _reparametrize_module(cell, tensors):
            state = cell.initial_state(x)
    else:
        state = with_tensors(cell, tensors).initial_state(x)
    got, right = [tuple(s.shape) for s in state], [(x.size(0), size) for size in cell.state_sizes]
    if got != right:
        raise RuntimeError(f"{type(cell).__name__}.initial_state should give tensors of shapes {right}, got {got}")
    return state
