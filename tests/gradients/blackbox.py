"""Derivatives of a layer's last state by its first, through its public interface and autograd alone."""

import torch


def random_state(layer, batch: int) -> torch.Tensor:
    """All states side by side, (B, n)."""
    return 0.5 * torch.randn(batch, sum(layer.cell().state_sizes), dtype=torch.float64)


def hx(layer, s: torch.Tensor):
    """The state (B, n) as a layer takes it."""
    parts = tuple(part.unsqueeze(0) for part in s.split(list(layer.cell().state_sizes), -1))
    return parts if len(parts) > 1 else parts[0]


def advance(layer, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """The state after x (T, B, I): (B, n) -> (B, n)."""
    last = layer(x, hx(layer, s))[1]
    return torch.cat(last if isinstance(last, tuple) else (last,), -1)[0]


def derivative(layer, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """(B, n, n), with the same noise for every evaluation."""

    def last(s):
        torch.manual_seed(1)
        return advance(layer, x, s)

    return torch.autograd.functional.jacobian(last, s).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
