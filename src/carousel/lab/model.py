"""The model around any recurrent layer: an encoder, the layer, and a head."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..layer import Recurrent
from .tasks import Task


class OneHot(nn.Module):
    """Symbols (...,) as vectors (..., num_symbols)."""

    def __init__(self, num_symbols: int) -> None:
        super().__init__()
        self.num_symbols = num_symbols

    def forward(self, symbols: Tensor) -> Tensor:
        return F.one_hot(symbols, self.num_symbols)


class SequenceModel(nn.Module):
    """Encoder, recurrent layer and a linear head; of the last output, or of every one, as the task has it.

    Args:
        recurrent: batch-first, with nn.LSTM's interface, ours or torch's.
        task: the sizes of input and output.
        embedding_size: of symbols; None: they are one-hot.
        encoder_dropout: the share of what the encoder makes that is dropped in training.
        head_dropout: the share of what the head reads that is dropped in training.
        tied: whether the head's weight is the embedding's (Press & Wolf 2017).

    Raises:
        ValueError: an embedding of what is no symbol, a bidirectional layer that would read the targets, or a tied
            head whose size is not the embedding's.
    """

    def __init__(
        self,
        recurrent: nn.Module,
        task: Task,
        embedding_size: int | None = None,
        encoder_dropout: float = 0.0,
        head_dropout: float = 0.0,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.bidirectional = getattr(recurrent, "bidirectional", False)
        if self.bidirectional and task.looks_ahead:
            raise ValueError("model.bidirectional must be false: the task asks for what the reverse direction has read")
        self.recurrent, self.every_step = recurrent, task.every_step
        dtype = next(recurrent.parameters()).dtype
        size = output_size(recurrent)
        self.head = nn.Linear(size, task.output_size, dtype=dtype)
        if embedding_size is not None:
            self.encoder = nn.Embedding(task.input_size, embedding_size, dtype=dtype)
        else:
            self.encoder = OneHot(task.input_size) if task.symbols else nn.Identity()
        self.encoder_dropout, self.head_dropout = nn.Dropout(encoder_dropout), nn.Dropout(head_dropout)
        if tied:
            weight = getattr(self.encoder, "weight", torch.empty(0))
            shapes = [tuple(self.head.weight.shape), tuple(weight.shape)]
            if shapes[0] != shapes[1]:
                raise ValueError(f"head.tied needs an embedding of the head's shape {shapes[0]}, got {shapes[1]}")
            self.head.weight = weight

    def encode(self, x: Tensor) -> Tensor:
        """What the recurrent layer reads, (B, T, ...)."""
        encoded = self.encoder(x)
        return self.encoder_dropout(encoded.to(self.head.weight.dtype))

    def forward(self, x: Tensor, lengths: Tensor | None = None, state: object = None) -> tuple[Tensor, object]:
        """
        Args:
            x: (B, T, input_size), or symbols (B, T).
            lengths: (B,), how many steps of each sequence are real; None: all.
            state: of the recurrent layer, to go on with.

        Returns:
            Predictions (B, output_size), or (B, T, output_size) where the task has a target at every step, and the
            state after the last step.
        """
        if lengths is not None:  # padding may hold anything
            padding = torch.arange(x.size(1), device=x.device) >= lengths[:, None]
            x = x.masked_fill(padding[(...,) + (None,) * (x.dim() - 2)], 0)
        output, state = self._run(self.encode(x), lengths, state)
        if not self.every_step:
            output = self._last(output, lengths)
        return self.head(self.head_dropout(output)), state

    def _run(self, x: Tensor, lengths: Tensor | None, state: object) -> tuple[Tensor, object]:
        if lengths is None:
            return self.recurrent(x, state)
        if isinstance(self.recurrent, Recurrent):
            return self.recurrent(x, state, lengths=lengths)
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        output, state = self.recurrent(packed, state)
        return pad_packed_sequence(output, batch_first=True, total_length=x.size(1))[0], state

    def _last(self, output: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, H): each direction where it has read the whole sequence."""
        last = (
            output[:, -1] if lengths is None else output[torch.arange(len(output), device=output.device), lengths - 1]
        )
        if not self.bidirectional:
            return last
        half = output.size(-1) // 2
        return torch.cat([last[:, :half], output[:, 0, half:]], -1)


def output_size(recurrent: Any) -> int:
    """Features of each output of a layer, ours or torch's."""
    if (size := getattr(recurrent, "output_size", None)) is not None:
        return size
    return (1 + recurrent.bidirectional) * (recurrent.proj_size or recurrent.hidden_size)
