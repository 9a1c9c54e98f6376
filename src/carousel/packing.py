"""Sequences of different lengths: packed, padded, reversed each within its own length."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence


def unpack(packed: PackedSequence) -> tuple[Tensor, Tensor]:
    """A PackedSequence as (T, B, ...) padded with zeros, in the batch's original order, and its lengths (B,)."""
    x, lengths = pad_packed_sequence(packed)
    return x, lengths.to(x.device)


def pack(x: Tensor, like: PackedSequence) -> PackedSequence:
    """Padded (T, B, ...), in the original order, packed as `like` is."""
    x = x if like.sorted_indices is None else x.index_select(1, like.sorted_indices)
    data = torch.cat([step[:size] for step, size in zip(x, like.batch_sizes.tolist(), strict=True)])
    return like._replace(data=data)


def active(lengths: Tensor, steps: int, dtype: torch.dtype) -> Tensor:
    """1 where a step is within its sequence, 0 where it is padding: (T, B, 1)."""
    return (torch.arange(steps, device=lengths.device)[:, None] < lengths).to(dtype).unsqueeze(-1)


def reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """(T, B, ...) backwards in time, each sequence within its own length; padding stays where it is."""
    if lengths is None:
        return x.flip(0)
    t = torch.arange(x.size(0), device=x.device)[:, None]
    index = torch.where(t < lengths, lengths - 1 - t, t)  # (T, B)
    return x.gather(0, index.view(*index.shape, *[1] * (x.dim() - 2)).expand_as(x))


def reverse_reset(reset: Tensor, lengths: Tensor | None) -> Tensor:
    """(T, B) marks of where a sequence begins, read in reverse: what is before t lies, backwards, before t - 1."""
    backwards = reverse(reset.roll(-1, 0), lengths)
    return torch.cat([torch.zeros_like(reset[:1]), backwards[1:]])


def check_lengths(lengths: Tensor | Sequence[int], x: Tensor) -> Tensor:
    """`lengths` as a tensor (B,) beside x (T, B, ...).

    Raises:
        ValueError: they are not one integer from 1 to T for each sequence.
    """
    lengths = torch.as_tensor(lengths, device=x.device)
    lengths = lengths.long() if lengths.numel() == 0 else lengths
    if lengths.shape != x.shape[1:2] or lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise ValueError(f"lengths should be {x.size(1)} integers, one for each sequence, got {lengths.tolist()}")
    tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    if torch.compiler.is_exporting() or tracing:  # what has to consist of torch's own operations
        fits = ((lengths >= 1) & (lengths <= x.size(0))).all()
        torch._assert_async(fits, "lengths should be from 1 to T")  # pyright: ignore[reportPrivateImportUsage]
        return lengths
    return within(lengths, x.size(0))


@torch.library.custom_op("carousel::within", mutates_args=())
def within(lengths: Tensor, steps: int) -> Tensor:
    """The lengths, of which a compiler or vmap has not seen the numbers, once they are known to be from 1 to `steps`.

    Raises:
        ValueError: they are not.
    """
    if lengths.numel() and not 1 <= lengths.min() <= lengths.max() <= steps:
        raise ValueError(f"lengths should be from 1 to {steps}, got {lengths.tolist()}")
    return lengths.clone()


@within.register_fake
def _(lengths: Tensor, steps: int) -> Tensor:
    return torch.empty_like(lengths)


@within.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], lengths: Tensor, steps: int) -> tuple[Tensor, int | None]:
    return within(lengths, steps), in_dims[0]


def check_reset(reset: Tensor, input: Tensor | PackedSequence) -> None:
    """Raise a ValueError if `reset` is not bool, or not laid out as the input."""
    if isinstance(input, PackedSequence):
        raise ValueError("reset goes with padded input and lengths, not with a PackedSequence")
    if not isinstance(reset, Tensor):
        raise ValueError(f"reset should be a tensor, got {type(reset).__name__}")
    if reset.dtype != torch.bool or reset.shape != input.shape[:-1]:
        raise ValueError(
            f"reset should be bool of shape {list(input.shape[:-1])}, got {reset.dtype} of shape {list(reset.shape)}"
        )
