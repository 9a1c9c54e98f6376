r"""What to expect of a backward pass: gradients' curves that follow from the initialisation alone.

All curves are decimal logarithms of the norm relative to lag 0, (lags,) in float64, to hold beside `Flow.rms`, for a
loss on the last output of a long sequence. They are averages over the recurrent matrices in the limit of many units.
What a layer of H units shows scatters around them, the more the larger the lag, and over many lags it leaves them: the
largest eigenvalue of a finite matrix is not that of an infinite one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cells import Cell
from .chain import double

TORCH_GAIN = 1 / math.sqrt(3)
"""sqrt(H) times the standard deviation of a recurrent weight, as torch draws it: from U(-1/sqrt(H), 1/sqrt(H))."""

REST = 1000
"""Steps after which a cell counts as resting, if it doesn't before."""


def rnn(lags: int, gain: float = TORCH_GAIN, drive: float = 0.0) -> Tensor:
    r"""The vanilla tanh RNN: :math:`\chi^{k/2}`, by mean field theory.

    :math:`q^* = g^2 E\tanh^2(\sqrt{q^*}z) + v` is the variance of the preactivations, :math:`\chi = g^2
    E(1-\tanh^2(\sqrt{q^*}z))^2` the factor per step of the squared gradient (Chen, Pennington & Schoenholz 2018,
    eqs. 3 and 6; Poole et al. 2016). An orthogonal matrix of that gain has the same.

    Args:
        lags: how many, from 0.
        gain: g, sqrt(H) times the standard deviation of the recurrent weights; of an orthogonal matrix its factor.
        drive: v, the variance of W x + b over units and steps.
    """
    return torch.arange(lags, dtype=torch.float64) * math.log10(rnn_growth(gain, drive))


def rnn_growth(gain: float = TORCH_GAIN, drive: float = 0.0) -> float:
    """The factor per step of `rnn`; above 1 gradients explode, which no gain reaches that is under 1."""
    z = torch.linspace(-8, 8, 2001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    q = max(gain, 1.0) ** 2 + drive
    for _ in range(10_000):  # slow at gain 1 without drive, where q falls as 1/n
        q, last = float(gain**2 * (density * (math.sqrt(q) * z).tanh().square()).sum() + drive), q
        if abs(q - last) < 1e-12:
            break
    slope = 1 - (math.sqrt(q) * z).tanh().square()
    return gain * math.sqrt(float((density * slope.square()).sum()))


def tied(lags: int, keep: float, through: float) -> Tensor:
    r"""A step with Jacobian :math:`aI + bG`, the same random matrix G (of spectral radius 1) in every step.

    :math:`E\|\delta_k\|^2/\|\delta_0\|^2 = \sum_j \binom{k}{j}^2 a^{2(k-j)} b^{2j}`, for powers of a Ginibre matrix
    are uncorrelated and each keeps the norm of a vector; the rate tends to a + b. Were G drawn anew for each step, the
    cross terms would be missing: :math:`(a^2+b^2)^k`, orders of magnitude less.

    Args:
        lags: how many, from 0.
        keep: a, what a unit keeps of its own state.
        through: b, the gain of the way through the recurrent matrix.
    """
    k = torch.arange(lags, dtype=torch.float64)[:, None]
    j = torch.arange(lags, dtype=torch.float64)[None]
    choose = torch.lgamma(k + 1) - torch.lgamma(j + 1) - torch.lgamma((k - j).clamp(min=0) + 1)
    a, b = torch.tensor([keep, through], dtype=torch.float64)
    terms = choose + torch.xlogy((k - j).clamp(min=0), a) + torch.xlogy(j, b)
    return torch.logsumexp((2 * terms).masked_fill(j > k, -math.inf), 1) / (2 * math.log(10))


def lstm(
    lags: int, forget_bias: float = 0.0, input_bias: float = 0.0, output_bias: float = 0.0, gain: float = TORCH_GAIN
) -> Tensor:
    r""":math:`\partial L/\partial c` of an LSTM near state zero: `tied` with
    :math:`a = \sigma(b_f), b = \sigma(b_i)\sigma(b_o)g`.

    Args:
        lags: how many, from 0.
        forget_bias, input_bias, output_bias: the sums of each gate's two biases, the same for all units.
        gain: of the candidate's recurrent matrix, as in `rnn`.
    """
    return tied(lags, _sigmoid(forget_bias), _sigmoid(input_bias) * _sigmoid(output_bias) * gain)


def lstm_edge(input_bias: float = 0.0, output_bias: float = 0.0, gain: float = TORCH_GAIN) -> float:
    """The forget bias at the edge of instability, where the rate of `lstm` is 1. Past it small states grow until they
    saturate the gates, and the linear theory no longer holds. inf if nothing goes through the gates, -inf if that way
    carries 1 or more by itself."""
    through = _sigmoid(input_bias) * _sigmoid(output_bias) * gain
    if not 0 < through < 1:
        return math.inf if through <= 0 else -math.inf
    return math.log((1 - through) / through)


def gru(lags: int, update_bias: float = 0.0, reset_bias: float = 0.0, gain: float = TORCH_GAIN) -> Tensor:
    r""":math:`\partial L/\partial h` of torch's GRU near state zero: `tied` with
    :math:`a = \sigma(b_z), b = (1-a)\sigma(b_r)g`.

    Since b is a share of 1 - a, the rate a + b stays under 1 for every bias: a GRU has no edge at gains under 2.
    """
    keep = _sigmoid(update_bias)
    return tied(lags, keep, (1 - keep) * _sigmoid(reset_bias) * gain)


def chrono(lags: int, t_max: int, gain: float = TORCH_GAIN) -> Tensor:
    r""":math:`\partial L/\partial c` of an LSTM under chrono initialisation, near state zero.

    The carousel alone (gain 0) is :math:`(E f^{2k})^{1/2}` over :math:`f = u/(1+u), u \sim U(1, T_{max}-1)`: a mixture
    of exponentials with timescales of 2 to `t_max` steps (Tallec & Ollivier 2018, section 2). The gates, with
    i = 1 - f, carry a little more, from the units of short timescale to those of long.

    Args:
        lags: how many, from 0.
        t_max: of the initialisation.
        gain: of the candidate's recurrent matrix, as in `rnn`.

    Raises:
        ValueError: `t_max` is under 2.
    """
    if t_max < 2:
        raise ValueError(f"t_max must be at least 2, got {t_max}")
    u = 1 + (t_max - 2) * (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    f = u / (1 + u)
    zero, one, o = torch.zeros_like(f), torch.ones_like(f), torch.full_like(f, 0.5)
    linear = Linear(
        ("h", "c"),
        keep=_matrices([[zero, o * f], [zero, f]]),
        write=_matrices([[o * (1 - f)], [1 - f]]),
        made=_matrices([[one, zero], [o, one]]),
        variance=torch.tensor([gain**2], dtype=torch.float64),
    )
    return linear.curves(lags)["c"]


def _matrices(rows: list[list[Tensor]]) -> Tensor:
    """One matrix for each unit: (V,) in rows and columns -> (V, rows, columns)."""
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@dataclass(frozen=True)
class Linear:
    r"""A cell's step, linearised at one or several points for each unit: V points, S states, G gates.

    :math:`\mathrm d s' = A_v\,\mathrm d s + \sum_g w_{vg}\,(U_g\,\mathrm d h)_v`, which has this form since `update` is
    elementwise. Random matrix theory knows the rest: the U_g count as independent Gaussian matrices.
    """

    states: tuple[str, ...]
    keep: Tensor
    """(V, new, old): A, each new state with respect to each old one of the same unit."""
    write: Tensor
    """(V, new, gate): w, each new state with respect to each gate's hidden map."""
    made: Tensor
    """(V, to, of): each new state with respect to each, within the step: of h of an LSTM, to c."""
    variance: Tensor
    """(G,): H times the variance of the recurrent weights."""

    def growth(self) -> float:
        r"""The factor per step for long lags, the spectral radius of the step's Jacobian.

        The :math:`\rho` with :math:`\sum_g \sigma_g^2 E_v|w_{vg}\cdot(\rho-A_v^T)^{-1}e_h|^2 = 1`: the edge of the
        spectrum of a matrix M + L J R with J random (Ahmadian, Fumarola & Miller 2015). At 1 lies the edge of
        instability. None of the points may be without influence on h.
        """
        low = torch.linalg.eigvals(self.keep).abs().max().item()
        high = low + 1 + 10 * (self.write.abs().amax() * self.variance.sum().sqrt()).item()
        size, unit = self.keep.size(-1), _unit(self.keep)
        for _ in range(60):
            rho = (low + high) / 2
            resolvent = rho * torch.eye(size, dtype=unit.dtype) - self.keep.mT
            reach = torch.linalg.solve(resolvent, unit)
            above = (self._through(reach).square().sum(-1).mean() > 1).item()
            low, high = (rho, high) if above else (low, rho)
        return (low + high) / 2

    def _through(self, gradient: Tensor) -> Tensor:
        """What of the gradients (..., V, S) of a unit's states reaches the units that feed it: (..., V, G)."""
        return torch.einsum("...vs,vsg->...vg", gradient, self.write) * self.variance.sqrt()

    def _alone(self, lags: int) -> Tensor:
        """The gradient of a unit's states from a gradient 1 of its h, by its own memory alone: (lags, V, S)."""
        steps = [_unit(self.keep)]
        for _ in range(1, lags):
            steps.append((self.keep.mT @ steps[-1][..., None])[..., 0])
        return torch.stack(steps)

    def curves(self, lags: int) -> dict[str, Tensor]:
        r"""The decimal logarithm of the gradient's norm with respect to every state, by its name, relative to lag 0.

        With d the gradient of a unit's states, going back is :math:`d(k+1) = A^T d(k) + e_h\,\xi(k)`, where what comes
        from other units, :math:`\xi`, is Gaussian with a covariance over *two* lags,
        :math:`\Gamma(k,k') = \sum_g \sigma_g^2 E_v[w\cdot d(k)\; w\cdot d(k')]`, for the matrices are the same at every
        step (dynamic mean field theory: Sompolinsky, Crisanti & Sommers 1988). Both are linear, so Gamma follows row by
        row from :math:`\Gamma = K + K * \Gamma`, with K what a single unit does.
        """
        alone = self._alone(lags)
        through = self._through(alone).flatten(1)
        kernel = through @ through.mT / alone.size(1)  # (lags, lags)
        gamma = torch.zeros_like(kernel)
        for k in range(lags):
            gamma[k] = kernel[k]
            if k:
                gamma[k, 1:] += _antidiagonals(gamma[:k].mT @ kernel[:k].flip(0))[: lags - 1]
        seen = torch.einsum("vst,kvt->kvs", self.made, alone)
        curves = {}
        for name, unit in zip(self.states, seen.unbind(-1), strict=True):
            covariance = unit @ unit.mT / unit.size(1)
            squares = [covariance[k, k] + (gamma[:k, :k].flip(0, 1) * covariance[:k, :k]).sum() for k in range(lags)]
            curve = torch.stack(squares).log10() / 2
            curves[name] = curve - curve[0]
        return curves


def _unit(keep: Tensor) -> Tensor:
    """(V, S): 1 at h, the first state."""
    return torch.zeros_like(keep[..., 0]).index_fill(-1, torch.tensor(0), 1.0)


def _antidiagonals(matrix: Tensor) -> Tensor:
    """The sums over (i, j) of equal i + j: (n, n) -> (2n - 1,)."""
    n = matrix.size(0)
    return F.pad(matrix, (0, n)).flatten()[: n * (2 * n - 1)].view(n, 2 * n - 1).sum(0)


def _has_one_product(cell: Cell, weight: Tensor) -> bool:
    """Whether the step, in float64, is `update` around the product of h with this one dense matrix."""
    if type(cell).forward is not Cell.forward or type(cell).step is not Cell.step or cell.proj_size:
        return False
    if weight.dim() != 2 or weight.size(1) != cell.hidden_size:
        return False
    probe = torch.linspace(-1, 1, cell.hidden_size, dtype=torch.float64)
    mapped, whole = cell.hidden_map(probe[None])[0], F.linear(probe, weight, getattr(cell, "bias_hh", None))
    return mapped.shape == whole.shape and torch.allclose(mapped, whole)


@torch.enable_grad()
def linearise(cell: Cell, x: Tensor | None = None) -> Linear:
    """A cell's step around the state in which it comes to rest, with the weights that it has.

    For any cell whose step is `update`, of which autograd gives the slopes; no formula is needed for a new one. Inputs
    that vary are not taken into account: what strong ones do to an RNN, `rnn` knows. Recurrent weights count by their
    variance alone.

    Args:
        cell: with any initialisation.
        x: (input_size,), a constant input, such as a task's mean; zeros if None.

    Raises:
        ValueError: the cell's step is not an elementwise `update` around one recurrent matrix, or the cell never comes
            to rest, or `x` does not fit.
    """
    cell = double(cell, "cpu")
    weight, units = getattr(cell, "weight_hh", None), cell.hidden_size
    if weight is None or not _has_one_product(cell, weight):
        raise ValueError(f"linearise needs a cell whose step is update around one recurrent matrix, got {cell}")
    x = torch.zeros(cell.input_size) if x is None else x.detach().cpu()
    if x.shape != (cell.input_size,):
        raise ValueError(f"x should have the shape ({cell.input_size},), got {tuple(x.shape)}")
    with torch.no_grad():
        wx, state = cell.input_map(x.double()[None]), cell.initial_state(x.double()[None])
        before = state
        for _ in range(REST):
            before = state
            state, _ = cell.step(wx, before)
            if all(torch.equal(a, b) for a, b in zip(before, state, strict=True)):
                break
        if any((a - b).abs().max() > 1e-4 for a, b in zip(before, state, strict=True)):
            raise ValueError(f"linearise needs a cell that comes to rest; this one has not after {REST} steps")
        uh = cell.hidden_map(before[0])
        variance = weight.view(-1, units, units).square().mean((1, 2)) * units
    uh, *before = (t.requires_grad_() for t in (uh, *before))
    new, _ = cell.update(wx, uh, tuple(before))

    def slopes(of: Tensor, to: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(of.sum(), to, retain_graph=True, allow_unused=True, materialize_grads=True)

    keep, write = [], []
    of_one = slopes(torch.stack([s[..., 0] for s in new]), [uh, *before])
    if any(slope.unflatten(-1, (-1, units))[..., 1:].any() for slope in of_one):
        raise ValueError(f"linearise needs an elementwise update, got {cell}")
    for s in new:
        to_uh, *to_states = slopes(s, [uh, *before])
        keep.append(torch.stack(to_states, -1).flatten(0, 1))
        write.append(to_uh.unflatten(-1, (-1, units)).transpose(1, 2).flatten(0, 1))
    made = torch.stack([torch.stack(slopes(s, new), -1).flatten(0, 1) for s in new], -1)
    return Linear(cell.states, torch.stack(keep, 1), torch.stack(write, 1), made, variance)
