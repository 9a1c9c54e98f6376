"""Any cell as a layer with the interface of `torch.nn.LSTM`."""

import numbers
import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.rnn import PackedSequence

from . import engine, layout, packing
from .cells import Cell
from .cells.cell import LoadsFromTorch, State, lend
from .engine import Loop, Masks, Norms
from .regularization import Detach, Regularization


class Recurrent(LoadsFromTorch):
    """A recurrent layer: the cell knows one step, the layer owns time.

    Everything that `torch.nn.LSTM` documents, for any cell. The parameters are the layer's own, under torch's names
    (`weight_ih_l0`, `weight_ih_l0_reverse`, ...) and in torch's order, so that the `state_dict` of the twin in
    `torch.nn` loads as it is, both ways; with the same seed the two also start from the same numbers.

    Args:
        cell: a subclass of `Cell`.
        input_size: features of x_t.
        hidden_size: units, H; or a list with one number for each layer.
        num_layers: layers stacked, each reading the outputs of the one below.
        bias: whether the cell has biases.
        batch_first: (batch, seq, feature) in place of (seq, batch, feature), for input and output alike.
        dropout: probability of an element being zeroed between the layers.
        bidirectional: whether each layer also runs backwards in time; the two outputs are concatenated.
        proj_size: size of the projected output, 0 for none (Sak et al. 2014); for cells that can be projected.
        residual: whether each layer above the first adds its input to its output.
        regularization: variational dropout, zoneout, DropConnect: see `Regularization`.
        detach: bars the gradient from the gates or from the carousel: see `Detach`.
        backend: "eager" for the loop composed with autograd, "fused" for one compiled kernel, "auto" for the kernel
            wherever it can run the call; `carousel.explain` says which it is, and why.
        options: whatever else the cell takes, such as `init`.

    Raises:
        TypeError, ValueError: as torch.nn.LSTM and the cell's constructor; or the widths do not fit each other.
    """

    _returns_autocast_dtype = False
    _norms: list[Norms] | None = None  # where `gradients.watch` finds the gradients' norms, one for each loop

    def __init__(
        self,
        cell: type[Cell],
        input_size: int,
        hidden_size: int | Sequence[int],
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
        **options,
    ) -> None:
        super().__init__()
        if not (isinstance(cell, type) and issubclass(cell, Cell)):
            raise TypeError(f"cell should be a subclass of carousel.Cell, got {cell}")
        widths = list(hidden_size) if isinstance(hidden_size, Sequence) else [hidden_size] * num_layers
        _check_arguments(num_layers, widths, bias, batch_first, dropout)
        if backend not in engine.BACKENDS:
            raise ValueError(f"backend should be one of {', '.join(engine.BACKENDS)}, got {backend!r}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size, self.residual = bidirectional, proj_size, residual
        if not isinstance(detach, Detach | None):
            raise TypeError(f"detach should be a carousel.Detach, got {detach!r}")
        self.regularization, self.detach = regularization or Regularization(), detach or Detach()
        self.backend = backend
        options |= {"proj_size": proj_size} if proj_size else {}

        loops, size = {}, input_size
        for k, width in enumerate(widths):
            for suffix in (f"_l{k}", f"_l{k}_reverse") if bidirectional else (f"_l{k}",):
                made = cell(size, width, bias=bias, device=device, dtype=dtype, **options)
                for name, parameter in made.named_parameters():
                    self.register_parameter(_flat(name, suffix), parameter)
                for name, buffer in made.named_buffers():
                    self.register_buffer(_flat(name, suffix), buffer)
                loops[suffix] = Loop(made.to("meta"))
            self.regularization.zoneouts(len(made.states))
            above = (1 + bidirectional) * made.output_size
            if residual and k > 0 and above != size:
                raise ValueError(f"residual needs layers of one width, got {widths}")
            size = above
        # In a tuple the loops are no submodules: their tensors stand in the layer alone and are lent at each call.
        self._loops = tuple(loops.items())
        # How many loops' states are stacked in one tensor: all, unless the layers differ in width.
        self._group = 1 + bidirectional if isinstance(hidden_size, Sequence) else len(loops)

    def _lent(self, suffix: str, cell: Cell) -> dict[str, Tensor]:
        """The layer's tensors that a cell is to use, by their names in the cell."""
        names = [name for tensors in (cell.named_parameters(), cell.named_buffers()) for name, _ in tensors]
        return {name: getattr(self, _flat(name, suffix)) for name in names}

    def cell(self, layer: int = 0, reverse: bool = False) -> Cell:
        """The cell of one layer and direction, with the layer's own parameters (not copies), to take steps with."""
        suffix, loop = self._loops[layer * (1 + self.bidirectional) + reverse]
        return lend(loop.cell, self._lent(suffix, loop.cell))

    def reset_parameters(self) -> None:
        """Initialise anew."""
        for suffix, loop in self._loops:
            lent = self._lent(suffix, loop.cell)
            fresh = {name: nn.Parameter(torch.empty_like(tensor.detach())) for name, tensor in lent.items()}
            lend(loop.cell, fresh).reset_parameters()
            for name, _ in loop.cell.named_parameters():
                if is_parametrized(self, _flat(name, suffix)):
                    setattr(self, _flat(name, suffix), fresh[name].detach())
                else:
                    lent[name].data.copy_(fresh[name])

    def train(self, mode: bool = True) -> "Recurrent":
        """As `nn.Module.train`, for the cells as well."""
        for _, loop in self._loops:
            loop.train(mode)
        return super().train(mode)

    def __getstate__(self) -> dict:
        """What copies and pickles are made of: they are not watched, if this is."""
        return {name: value for name, value in self.__dict__.items() if name != "_norms"}

    def flatten_parameters(self) -> None:
        """Nothing to do; here for code written for `torch.nn.LSTM`."""

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """The parameters of each layer and direction, as `torch.nn.LSTM.all_weights`."""
        return [
            [getattr(self, _flat(n, suffix)) for n, _ in loop.cell.named_parameters()] for suffix, loop in self._loops
        ]

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
            hx: the state before the first step, zeros if None: (L * D, B, H) for L layers and D directions, or
                (L * D, H) for one sequence; a tuple of them, in the order of the cell's `states`, if it has several, as
                nn.LSTM's (h_0, c_0). If the layers differ in width, a tuple of L such things, each (D, B, H_l).
            lengths: (B,), the steps of each sequence; what lies beyond is padding: it is not read, the output there is
                zero, and the last state is that of the last real step. The same as packing the input.
            reset: (T, B) bool, laid out as the input: where True, a new sequence begins, with zero state, in both
                directions.

        Returns:
            h_t of every step, laid out as the input, and the last state, laid out as `hx`.

        Raises:
            ValueError: `input` is neither 2D nor 3D, or not of the weights' dtype; `lengths` or `reset` do not fit it.
            RuntimeError: the number of features or the state's shape is wrong, or the sequence is empty; or
                `backend` is "fused", and that cannot run this.
        """
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
        """
        return self._run(input, hx, lengths, reset, record=True)[2]

    def _run(self, input, hx, lengths, reset, record: bool = False):
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
        states = layout.split_states(hx, cells, self._group, x, batched)

        lasts, records = [], []
        for k in range(self.num_layers):
            outputs = []
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

        if self._returns_autocast_dtype and torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
            lasts = [tuple(s.to(x.dtype) for s in last) for last in lasts]
        output = packing.pack(x, input) if packed else arrange(x)
        return (
            output,
            layout.join_states(lasts, self._group, batched),
            [{n: arrange(y) for n, y in kept.items()} for kept in records],
        )

    def _run_one(self, k: int, x: Tensor, state: State, lengths, reset, reverse: bool, record: bool):
        """One layer in one direction: (T, B, I) -> (T, B, H), its last state, its record."""
        suffix, loop = self._loops[k]
        noise = self.regularization
        lent = noise.drop_weight(self._lent(suffix, loop.cell), self.training)
        x = noise.drop_input(x, self.training)
        share = noise.share(state, x.size(0), self.training)
        real = None if lengths is None else packing.active(lengths, x.size(0), x.dtype)  # (T, B, 1)
        if real is not None:
            share = [real if s is None else real * s for s in share]
        if reverse:
            x = packing.reverse(x, lengths)
            reset = None if reset is None else packing.reverse_reset(reset, lengths)
        if reset is not None:
            reset = reset.unsqueeze(-1) if real is None else reset.unsqueeze(-1) & real.bool()  # never in the padding
        masks = Masks(
            reset=reset,
            recurrent=noise.recurrent_mask(state[0], self.training),
            share=tuple(share) if any(s is not None for s in share) else (),
            real=real,
            **(self.detach.masks(x.size(0), x.device) if self.training or torch.is_grad_enabled() else {}),
        )
        arguments = (loop, lent, x, state, masks, record, self.backend)
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
        dtype = getattr(self, _flat("weight_ih", "_l0"), x).dtype
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
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
        """The twin in torch.nn, with copies of the weights.

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
        weight = self.all_weights[0][0]
        twin = cell.torch_twin(1, **options, device=weight.device, dtype=weight.dtype)
        lent = {
            _flat(name, suffix): t for suffix, loop in self._loops for name, t in self._lent(suffix, loop.cell).items()
        }
        twin.load_state_dict(lent)
        for name, parameter in twin.named_parameters():
            parameter.requires_grad_(lent[name].requires_grad)
        return twin.train(self.training)

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
        cell = [] if hasattr(self, "mode") else [type(self._loops[0][1].cell).__name__]
        return ", ".join([*cell, f"{self.input_size}, {self.hidden_size}", *parts])


def _flat(name: str, suffix: str) -> str:
    return name.replace(".", "_") + suffix


def _check_arguments(num_layers, widths, bias, batch_first, dropout) -> None:
    """What torch.nn.LSTM refuses, in its words; the cell refuses the rest."""
    float(dropout)
    if not isinstance(dropout, numbers.Number) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
        raise ValueError(
            "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
        )
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
            f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
            stacklevel=3,
        )
    for name, value in (("bias", bias), ("batch_first", batch_first)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(value).__name__}")
    if num_layers <= 0:
        raise ValueError("num_layers must be greater than zero")
    if len(widths) != num_layers:
        raise ValueError(f"hidden_size should be one number or one for each of {num_layers} layers, got {widths}")
