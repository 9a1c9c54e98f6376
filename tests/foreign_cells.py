"""Fourteen recurrent cells as people write them, each in a style of its own, and none of them for Carousel: `cell(x, state)`
returns the new state, of which the first part is the output."""

import math
from typing import List, Tuple

import numpy as np
import torch
import torch as th
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter, init


# ----------------------------------------------------------------------------
# 1
# ----------------------------------------------------------------------------
class LayerNormLSTMCell(nn.Module):
    """LSTM with layer norm on every gate and on the cell, and recurrent dropout on the candidate (Ba et al. 2016; Semeniuta et al. 2016)."""

    def __init__(self, input_size, hidden_size, bias=True, forget_bias=1.0, r_dropout=0.1):
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.forget_bias = forget_bias
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        if bias:
            self.bias = nn.Parameter(torch.zeros(4 * hidden_size))
        else:
            self.register_parameter("bias", None)
        self.norms = nn.ModuleList([nn.LayerNorm(hidden_size) for _ in range(4)])
        self.norm_c = nn.LayerNorm(hidden_size, eps=1e-3)
        self.drop = nn.Dropout(r_dropout) if r_dropout > 0 else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.xavier_uniform_(self.weight_ih)
        for w in self.weight_hh.data.chunk(4, 0):
            nn.init.orthogonal_(w)

    def forward(self, x, state):
        # type: (Tensor, Tuple[Tensor, Tensor]) -> Tuple[Tensor, Tensor]
        h, c = state
        gates = F.linear(x, self.weight_ih, self.bias) + F.linear(h, self.weight_hh)
        i, f, g, o = [ln(z) for ln, z in zip(self.norms, gates.chunk(4, dim=-1))]
        i, f, o = torch.sigmoid(i), torch.sigmoid(f + self.forget_bias), torch.sigmoid(o)
        g = self.drop(torch.tanh(g))
        c = f * c + i * g
        h = o * torch.tanh(self.norm_c(c))
        return h, c


# ----------------------------------------------------------------------------
# 2
# ----------------------------------------------------------------------------
class MogrifierLSTMCell(nn.Module):
    '''
    Mogrifier LSTM (Melis et al. 2020): x and h gate each other for a few rounds, then a stock LSTMCell.
    '''
    def __init__(self, input_size, hidden_size, mogrify_steps=5, rank=3):
        super(MogrifierLSTMCell, self).__init__()
        self.mogrify_steps = mogrify_steps
        self.lstm = nn.LSTMCell(input_size, hidden_size)

        def low_rank(n_in, n_out):
            return nn.Sequential(nn.Linear(n_in, rank, bias=False), nn.Linear(rank, n_out))

        self.mogrifiers = nn.ModuleList()
        for step in range(mogrify_steps):
            if step % 2 == 0:
                self.mogrifiers.append(low_rank(hidden_size, input_size))    # Q: h -> x
            else:
                self.mogrifiers.append(low_rank(input_size, hidden_size))    # R: x -> h

    def mogrify(self, x, h):
        for step, m in enumerate(self.mogrifiers):
            if step % 2 == 0:
                x = 2 * m(h).sigmoid() * x
            else:
                h = 2 * m(x).sigmoid() * h
        return x, h

    def forward(self, x, state):
        ht, ct = state
        x, ht = self.mogrify(x, ht)
        ht, ct = self.lstm(x, (ht, ct))
        return ht, ct


# ----------------------------------------------------------------------------
# 3
# ----------------------------------------------------------------------------
def highway(pre, s, p, training):
   n = pre.size(1) // 2
   H, T = th.split(pre, n, 1)
   H, T = th.tanh(H), th.sigmoid(T)
   carry = 1 - T
   T = F.dropout(T, p=p, training=training)
   return H*T + s*carry


class RHNCell(nn.Module):
   """Recurrent highway network, coupled carry, depth 3 (Zilly et al. 2017)."""
   def __init__(self, input_size, hidden_size, depth=3, gateDrop=0.25, gateBias=-2.0):
      super(RHNCell, self).__init__()
      self.depth, self.gateDrop = depth, gateDrop
      self.inp  = nn.Linear(input_size, 2*hidden_size, bias=False)
      self.cell = nn.ModuleList([
            nn.Linear(hidden_size, 2*hidden_size) for _ in range(depth)])
      for lin in self.cell:
         lin.bias.data[hidden_size:].fill_(gateBias)

   def forward(self, x, state):
      s = state
      for l in range(self.depth):
         Ws = self.cell[l](s)
         if l == 0:
            Ws += self.inp(x)
         s = highway(Ws, s, self.gateDrop, self.training)
      return s


# ----------------------------------------------------------------------------
# 4
# ----------------------------------------------------------------------------
class _RowScale(nn.Module):
    """hyper state -> per-gate embedding z -> one scale for each row of each gate's matrix."""

    def __init__(self, hyper_size: int, n_z: int, hidden_size: int, n_gates: int = 4, is_bias: bool = False):
        super().__init__()
        self.n_gates, self.n_z = n_gates, n_z
        self.z = nn.Linear(hyper_size, n_gates * n_z, bias=not is_bias)
        self.d = nn.Parameter(torch.empty(n_gates, n_z, hidden_size))
        if is_bias:
            nn.init.normal_(self.z.weight, std=0.01)
            nn.init.normal_(self.d, std=0.01)
        else:
            nn.init.normal_(self.z.weight, std=0.01)
            nn.init.ones_(self.z.bias)
            nn.init.constant_(self.d, 1.0 / n_z)

    def forward(self, h_hat: Tensor) -> Tensor:
        z = self.z(h_hat).view(-1, self.n_gates, self.n_z)
        return torch.einsum("bgz,gzh->bgh", z, self.d)


class HyperLSTMCell(nn.Module):
    """HyperLSTM (Ha, Dai & Le 2016): a small LSTM rescales the rows of the main LSTM at each step; state (h, c, h_hat, c_hat)."""

    def __init__(self, input_size: int, hidden_size: int, hyper_size: int = 5, n_z: int = 2, layer_norm: bool = True):
        super().__init__()
        self.hidden_size = hidden_size
        self.hyper_size = hyper_size

        self.hyper_ih = nn.Linear(input_size + hidden_size, 4 * hyper_size)
        self.hyper_hh = nn.Linear(hyper_size, 4 * hyper_size, bias=False)

        self.scale_x = _RowScale(hyper_size, n_z, hidden_size)
        self.scale_h = _RowScale(hyper_size, n_z, hidden_size)
        self.shift = _RowScale(hyper_size, n_z, hidden_size, is_bias=True)

        # one (out, in) matrix per gate
        self.w_x = nn.ParameterList([nn.Parameter(torch.empty(hidden_size, input_size)) for _ in range(4)])
        self.w_h = nn.ParameterList([nn.Parameter(torch.empty(hidden_size, hidden_size)) for _ in range(4)])
        self.b0 = nn.Parameter(torch.zeros(4, hidden_size))
        for w in list(self.w_x) + list(self.w_h):
            nn.init.orthogonal_(w)

        self.layer_norm = nn.ModuleList([nn.LayerNorm(hidden_size) if layer_norm else nn.Identity() for _ in range(4)])
        self.layer_norm_c = nn.LayerNorm(hidden_size) if layer_norm else nn.Identity()

    def forward(
        self, x: Tensor, state: Tuple[Tensor, Tensor, Tensor, Tensor]
    ) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        h, c, h_hat, c_hat = state

        # the small network
        x_hat = torch.cat((h, x), dim=-1)
        ii, ff, gg, oo = (self.hyper_ih(x_hat) + self.hyper_hh(h_hat)).chunk(4, dim=-1)
        c_hat = torch.sigmoid(ff) * c_hat + torch.sigmoid(ii) * torch.tanh(gg)
        h_hat = torch.sigmoid(oo) * torch.tanh(c_hat)

        # the main network
        d_x, d_h, d_b = self.scale_x(h_hat), self.scale_h(h_hat), self.shift(h_hat)
        ifgo = []
        for k in range(4):
            y = (
                d_h[:, k] * torch.einsum("ij,bj->bi", self.w_h[k], h)
                + d_x[:, k] * torch.einsum("ij,bj->bi", self.w_x[k], x)
                + d_b[:, k]
                + self.b0[k]
            )
            ifgo.append(self.layer_norm[k](y))
        i, f, g, o = ifgo
        c_next = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h_next = torch.sigmoid(o) * torch.tanh(self.layer_norm_c(c_next))
        return h_next, c_next, h_hat, c_hat


# ----------------------------------------------------------------------------
# 5
# ----------------------------------------------------------------------------
class LiquidCell(nn.Module):
    """Liquid time-constant cell with conductance synapses and six semi-implicit Euler sub-steps (Hasani et al. 2021)."""

    RANGES = dict(gleak=(0.001, 1.0), vleak=(-0.2, 0.2), cm=(0.4, 0.6), w=(0.001, 1.0), sigma=(3, 8), mu=(0.3, 0.8))

    def __init__(self, input_size, hidden_size, ode_unfolds=6, epsilon=1e-8, seed=7):
        super().__init__()
        self.ode_unfolds = ode_unfolds
        self.epsilon = epsilon
        rng = np.random.RandomState(seed)

        def polarity(n):
            return torch.tensor(rng.choice([-1.0, 1.0], size=(n, hidden_size)), dtype=torch.get_default_dtype())

        for name in ("gleak", "vleak", "cm"):
            self._add(name, (hidden_size,), name)
        for prefix, n in (("sensory_", input_size), ("", hidden_size)):
            for name in ("w", "sigma", "mu"):
                self._add(prefix + name, (n, hidden_size), name)
            self.register_parameter(prefix + "erev", nn.Parameter(polarity(n)))
        # a random 3/4 of the possible recurrent synapses exists
        self.register_buffer("sparsity_mask", torch.as_tensor(rng.rand(hidden_size, hidden_size) < 0.75).float())
        self.input_w = nn.Parameter(torch.ones(input_size))
        self.input_b = nn.Parameter(torch.zeros(input_size))
        self.softplus = nn.Softplus()

    def _add(self, name, shape, kind):
        lo, hi = self.RANGES[kind]
        self.register_parameter(name, nn.Parameter(torch.rand(*shape) * (hi - lo) + lo))

    def _sigmoid(self, v, mu, sigma):
        v = torch.unsqueeze(v, -1)  # (B, pre, 1) against (pre, post)
        return torch.sigmoid(sigma * (v - mu))

    def forward(self, inputs, state, elapsed_time=1.0):
        inputs = inputs * self.input_w + self.input_b
        v_pre = state

        # what comes from the inputs does not change over the sub-steps
        sensory_act = self.softplus(self.sensory_w) * self._sigmoid(inputs, self.sensory_mu, self.sensory_sigma)
        num_sensory = torch.sum(sensory_act * self.sensory_erev, dim=1)
        den_sensory = torch.sum(sensory_act, dim=1)

        cm_t = self.softplus(self.cm) / (elapsed_time / self.ode_unfolds)
        gleak = self.softplus(self.gleak)
        w = self.softplus(self.w) * self.sparsity_mask

        for _ in range(self.ode_unfolds):
            act = w * self._sigmoid(v_pre, self.mu, self.sigma)
            numerator = cm_t * v_pre + gleak * self.vleak + torch.sum(act * self.erev, dim=1) + num_sensory
            denominator = cm_t + gleak + torch.sum(act, dim=1) + den_sensory
            v_pre = numerator / (denominator + self.epsilon)
        return v_pre


# ----------------------------------------------------------------------------
# 6
# ----------------------------------------------------------------------------
class SlotAttentionRNNCell(nn.Module):
    """RNN that reads k learned memory slots by multi-head attention at each step and mixes the reading in through a gate (memory networks / RMC flavour)."""

    def __init__(self, input_size, hidden_size, num_slots=5, num_heads=2, dropout=0.1):
        super().__init__()
        assert hidden_size % num_heads == 0, f"hidden_size {hidden_size} is not divisible by num_heads {num_heads}"
        self.input_size, self.hidden_size = input_size, hidden_size
        self.num_heads = num_heads
        self.head_dim = hidden_size // num_heads
        self.scale = self.head_dim ** -0.5

        self.slots = nn.Parameter(torch.randn(num_slots, hidden_size) * 0.5)
        self.slot_bias = nn.Parameter(torch.zeros(num_heads, 1, num_slots))
        self.to_q = nn.Linear(input_size + hidden_size, hidden_size, bias=False)
        self.to_kv = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        self.to_out = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.Dropout(dropout))
        self.norm = nn.LayerNorm(hidden_size)
        self.ff = nn.Sequential(
            nn.Linear(hidden_size, 2 * hidden_size),
            nn.GELU(),
            nn.Linear(2 * hidden_size, hidden_size),
        )
        self.gate = nn.Linear(input_size + 2 * hidden_size, hidden_size)

    def forward(self, x, state):
        B, D = x.shape
        assert D == self.input_size, f"expected {self.input_size} input features, got {D}"
        nh, hd = self.num_heads, self.head_dim

        xh = torch.cat([x, state], dim=-1)
        q = self.to_q(xh).view(B, nh, hd).transpose(0, 1)                        # (nh, B, hd)
        k, v = self.to_kv(self.slots).chunk(2, dim=-1)
        k = k.view(-1, nh, hd).permute(1, 2, 0)                                  # (nh, hd, S)
        v = v.view(-1, nh, hd).transpose(0, 1)                                   # (nh, S, hd)

        logits = torch.baddbmm(self.slot_bias, q, k, alpha=self.scale)           # (nh, B, S)
        attn = logits.softmax(dim=-1)
        read = torch.bmm(attn, v).transpose(0, 1).contiguous().view(B, -1)       # (B, H)
        read = self.to_out(read)

        cand = self.norm(state + read)
        cand = torch.tanh(cand + self.ff(cand))
        z = torch.sigmoid(self.gate(torch.cat([xh, read], dim=-1)))
        return torch.lerp(state, cand, z)


# ----------------------------------------------------------------------------
# 7
# ----------------------------------------------------------------------------
class ClockworkCell(nn.Module):
    """Clockwork RNN (Koutnik et al. 2014): modules with periods 1, 2, 4, ..., a block-triangular mask, and the clock as the second state (B, 1).

    Args:
        input_size: int, number of input features.
        hidden_size: int, number of hidden units, divisible by the number of periods.
        clock_periods: list of int, from the fastest module to the slowest.
    """

    def __init__(self,
                 input_size: int,
                 hidden_size: int,
                 clock_periods: List[int] = (1, 2, 4, 8),
                 bias: bool = True):
        super(ClockworkCell, self).__init__()
        n_modules = len(clock_periods)
        if hidden_size % n_modules != 0:
            raise ValueError("hidden_size {} must be a multiple of {}".format(hidden_size, n_modules))
        block = hidden_size // n_modules

        self.W_in = Parameter(torch.Tensor(input_size, hidden_size))
        self.W_rec = Parameter(torch.Tensor(hidden_size, hidden_size))
        self.b = Parameter(torch.zeros(1, hidden_size)) if bias else 0.
        init.xavier_normal_(self.W_in)
        init.xavier_normal_(self.W_rec)

        # a module hears itself and the slower ones
        mask = torch.zeros(hidden_size, hidden_size)
        for i in range(n_modules):
            mask[i * block:, i * block:(i + 1) * block] = 1.
        self.register_buffer('mask', mask)
        periods = torch.Tensor(clock_periods)
        self.register_buffer('periods', periods.repeat_interleave(block).unsqueeze(0))

    def forward(self, x: Tensor, state: Tuple[Tensor, Tensor]) -> Tuple[Tensor, Tensor]:
        h, clock = state
        new_h = torch.tanh(x @ self.W_in + h @ (self.W_rec * self.mask) + self.b)
        active = (clock % self.periods) == 0
        new_h = torch.where(active, new_h, h)
        return new_h, clock + 1


# ----------------------------------------------------------------------------
# 8
# ----------------------------------------------------------------------------
def cmul(ar, ai, br, bi):
  """(a_r + i a_i)(b_r + i b_i), real and imaginary part"""
  return ar * br - ai * bi, ar * bi + ai * br


class EUNNCell(nn.Module):
  """Efficient unitary RNN: complex pairwise rotations in `capacity` alternating layers, then modReLU; state (re, im) (Jing et al. 2017)."""

  def __init__(self, input_size, hidden_size, capacity=4):
    super().__init__()
    assert hidden_size % 2 == 0, "need an even number of units"
    self.n, self.capacity = hidden_size, capacity
    self.theta = nn.Parameter(2 * math.pi * torch.rand(capacity, hidden_size // 2))
    self.phi = nn.Parameter(2 * math.pi * torch.rand(capacity, hidden_size // 2))
    self.omega = nn.Parameter(2 * math.pi * torch.rand(hidden_size))
    self.U = nn.Linear(input_size, 2 * hidden_size, bias=False)
    self.bias = nn.Parameter(torch.empty(hidden_size).uniform_(-0.01, 0.01))

  def rotate(self, re, im, layer):
    ct, st = torch.cos(self.theta[layer]), torch.sin(self.theta[layer])
    cp, sp = torch.cos(self.phi[layer]), torch.sin(self.phi[layer])
    if layer % 2:  # odd layers pair up the neighbours shifted by one
      re, im = re.roll(-1, dims=1), im.roll(-1, dims=1)
    r0, r1 = re.view(-1, self.n // 2, 2).unbind(-1)
    i0, i1 = im.view(-1, self.n // 2, 2).unbind(-1)
    # top: e^{i phi} (cos z0 - sin z1);  bottom: sin z0 + cos z1
    tr, ti = cmul(ct * r0 - st * r1, ct * i0 - st * i1, cp, sp)
    br, bi = st * r0 + ct * r1, st * i0 + ct * i1
    re = torch.stack([tr, br], dim=-1).flatten(1)
    im = torch.stack([ti, bi], dim=-1).flatten(1)
    if layer % 2:
      re, im = re.roll(1, dims=1), im.roll(1, dims=1)
    return re, im

  def forward(self, x, state):
    re, im = state
    for layer in range(self.capacity):
      re, im = self.rotate(re, im, layer)
    re, im = cmul(re, im, self.omega.cos(), self.omega.sin())

    ux = self.U(x)
    re = re + ux[:, :self.n]
    im = im + ux[:, self.n:]

    mag = torch.sqrt(re ** 2 + im ** 2 + 1e-6)
    scale = F.relu(mag + self.bias) / mag
    return re * scale, im * scale


# ----------------------------------------------------------------------------
# 9
# ----------------------------------------------------------------------------
def create_net(n_inputs, n_outputs, n_layers=1, n_units=16, nonlinear=nn.Tanh):
    layers = [nn.Linear(n_inputs, n_units)]
    for _ in range(n_layers):
        layers.append(nonlinear())
        layers.append(nn.Linear(n_units, n_units))
    layers.append(nonlinear())
    layers.append(nn.Linear(n_units, n_outputs))
    return nn.Sequential(*layers)


class RK4_ODE_RNN_Cell(nn.Module):
    """ODE-RNN: the state drifts by two Runge-Kutta-4 steps of a small MLP, then a gated update takes the observation in (Rubanova et al. 2019)."""

    def __init__(self, input_size, hidden_size, n_units=10, dt=1.0, n_steps=2):
        super(RK4_ODE_RNN_Cell, self).__init__()
        self.ode_func = create_net(hidden_size, hidden_size, n_units=n_units)
        self.update_gate = nn.Sequential(
            nn.Linear(hidden_size + input_size, n_units), nn.Tanh(),
            nn.Linear(n_units, hidden_size), nn.Sigmoid())
        self.reset_gate = nn.Sequential(
            nn.Linear(hidden_size + input_size, n_units), nn.Tanh(),
            nn.Linear(n_units, hidden_size), nn.Sigmoid())
        self.new_state_net = nn.Sequential(
            nn.Linear(hidden_size + input_size, n_units), nn.Tanh(),
            nn.Linear(n_units, hidden_size))
        self.dt = dt
        self.n_steps = n_steps

        def init_weights(m):
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, mean=0, std=0.3)
                nn.init.constant_(m.bias, val=0)
        self.apply(init_weights)

    def rk4_step(self, y, step):
        f = self.ode_func
        k1 = f(y)
        k2 = f(y + 0.5 * step * k1)
        k3 = f(y + 0.5 * step * k2)
        k4 = f(y + step * k3)
        return y + (k1 + 2 * k2 + 2 * k3 + k4) * (step / 6.0)

    def forward(self, x, h):
        step = self.dt / self.n_steps
        y = h
        for _ in range(self.n_steps):
            y = self.rk4_step(y, step)

        yx = torch.cat((y, x), -1)
        z = self.update_gate(yx)
        r = self.reset_gate(yx)
        new = self.new_state_net(torch.cat((y * r, x), -1))
        return (1 - z) * new + z * y


# ----------------------------------------------------------------------------
# 10
# ----------------------------------------------------------------------------
class NestedLSTMCell(nn.Module):
    """Nested LSTM (Moniz & Krueger 2017): the outer cell is the output of an inner LSTM; hard gates; state (h, c, inner c)."""

    def __init__(self, input_size, hidden_size, clip=5.):
        super(NestedLSTMCell, self).__init__()
        self.hidden_size = hidden_size
        self.clip = clip
        self.kernel = nn.Parameter(torch.Tensor(input_size, 4 * hidden_size))
        self.recurrent_kernel = nn.Parameter(torch.Tensor(hidden_size, 4 * hidden_size))
        self.bias = nn.Parameter(torch.Tensor(4 * hidden_size))
        self.inner_kernel = nn.Parameter(torch.Tensor(2, hidden_size, 4 * hidden_size))
        self.inner_bias = nn.Parameter(torch.Tensor(4 * hidden_size))
        self.init_weights()

    def init_weights(self):
        stdv = 1.0 / math.sqrt(self.hidden_size)
        for p in self.parameters():
            p.data.uniform_(-stdv, stdv)
        with torch.no_grad():
            self.bias[self.hidden_size:2 * self.hidden_size] += 1
            self.inner_bias[self.hidden_size:2 * self.hidden_size].add_(1)

    def extra_repr(self):
        return f"hidden_size={self.hidden_size}, clip={self.clip}"

    def forward(self, x, state):
        HS = self.hidden_size
        h_t, c_t, n_t = state
        assert h_t.size() == c_t.size() == n_t.size(), f"states differ: {h_t.size()}, {c_t.size()}, {n_t.size()}"

        gates = torch.addmm(self.bias, x, self.kernel)
        gates += h_t @ self.recurrent_kernel
        i_t = F.hardsigmoid(gates[:, :HS])
        f_t = F.hardsigmoid(gates[:, HS:HS * 2])
        g_t = torch.tanh(gates[:, HS * 2:HS * 3])
        o_t = F.hardsigmoid(gates[:, HS * 3:])

        # the inner LSTM: its input is i*g, its hidden state f*c
        inner_x = i_t * g_t
        inner_h = c_t.clone().mul_(f_t)
        k_x, k_h = self.inner_kernel.unbind(0)
        inner = torch.addmm(torch.addmm(self.inner_bias, inner_x, k_x), inner_h, k_h)
        ii, ff, gg, oo = torch.split(inner, HS, dim=1)
        n_t = torch.sigmoid(ff) * n_t
        n_t.addcmul_(torch.sigmoid(ii), torch.tanh(gg)).clamp_(-self.clip, self.clip)
        c_t = torch.sigmoid(oo) * torch.tanh(n_t)

        h_t = F.hardtanh(c_t * 1.5).mul_(o_t)
        return h_t, c_t, n_t


# ----------------------------------------------------------------------------
# 11
# ----------------------------------------------------------------------------
class AntisymmetricGatedRNNCell(nn.Module):
    """AntisymmetricRNN with input gating.

    Chang, Chen, Haber, Chi, "AntisymmetricRNN: A Dynamical System View on
    Recurrent Neural Networks", ICLR 2019, https://arxiv.org/abs/1902.09689
    """

    def __init__(self, input_size, hidden_size, epsilon=0.1, gamma=0.01):
        super().__init__()
        self.hidden_size = hidden_size
        self.epsilon = epsilon
        self.gamma = gamma
        self.W = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.V_h = nn.Linear(input_size, hidden_size)
        self.V_z = nn.Linear(input_size, hidden_size)
        self.register_buffer('eye', torch.eye(hidden_size))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.normal_(self.W, std=1.0 / math.sqrt(self.hidden_size))
        for lin in (self.V_h, self.V_z):
            nn.init.normal_(lin.weight, std=1.0 / math.sqrt(lin.in_features))
            nn.init.zeros_(lin.bias)

    def forward(self, x, h):
        # skew-symmetric matrix minus a bit of diffusion
        A = self.W - self.W.t() - self.gamma * self.eye
        Ah = h @ A.t()
        z = torch.sigmoid(Ah + self.V_z(x))
        return h + self.epsilon * z * torch.tanh(Ah + self.V_h(x))


# ----------------------------------------------------------------------------
# 12
# ----------------------------------------------------------------------------
class StatisticalRecurrentUnitCell(nn.Module):
    """The Statistical Recurrent Unit: un-gated moving averages at many scales.

    Oliva, Poczos, Schneider, ICML 2017, https://arxiv.org/abs/1703.00381
    state: (h, mu_1, ..., mu_m), one mu for each alpha.
    """

    def __init__(self, input_size, hidden_size, r_size=None,
                 alphas=(0.0, 0.25, 0.5, 0.9, 0.99)):
        super().__init__()
        r_size = r_size or max(1, hidden_size // 2)
        self.alphas = alphas
        self.mu2r = nn.Linear(hidden_size * len(alphas), r_size)
        self.r2phi = nn.Linear(r_size, hidden_size, bias=False)
        self.x2phi = nn.Linear(input_size, hidden_size)
        self.mu2o = nn.Linear(hidden_size * len(alphas), hidden_size)
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.xavier_normal_(m.weight)
                if m.bias is not None:
                    nn.init.constant_(m.bias, 0.1)

    def forward(self, x, state):
        _, *mus = state
        r = F.relu(self.mu2r(torch.cat(mus, dim=1)))
        phi = F.relu(self.r2phi(r) + self.x2phi(x))
        mus = [a * mu + (1 - a) * phi for a, mu in zip(self.alphas, mus)]
        h = F.relu(self.mu2o(torch.cat(mus, dim=1)))
        return (h, *mus)


# ----------------------------------------------------------------------------
# 13
# ----------------------------------------------------------------------------
class GORUCell(nn.Module):
    """Gated Orthogonal Recurrent Unit, real-valued, two layers of rotations.

    Jing, Gulcehre, Peurifoy, Shen, Tegmark, Soljacic, Bengio, "Gated Orthogonal
    Recurrent Units: On Learning to Forget", https://arxiv.org/abs/1706.02761
    """

    def __init__(self, input_size, hidden_size):
        super().__init__()
        assert hidden_size % 2 == 0, 'GORU rotates pairs of units'
        self.gates = nn.Linear(input_size + hidden_size, 2 * hidden_size)
        self.W = nn.Linear(input_size, hidden_size, bias=False)
        self.theta = nn.Parameter(torch.empty(2, hidden_size // 2).uniform_(-math.pi, math.pi))
        self.b = nn.Parameter(torch.empty(hidden_size).uniform_(-0.01, 0.01))

    def rotate(self, h, theta):
        even, odd = h[:, 0::2], h[:, 1::2]
        cos, sin = torch.cos(theta), torch.sin(theta)
        out = torch.stack([cos * even - sin * odd, sin * even + cos * odd], dim=-1)
        return out.view(h.size(0), -1)

    def modrelu(self, z):
        return torch.sign(z) * F.relu(torch.abs(z) + self.b)

    def forward(self, x, h):
        r, z = torch.sigmoid(self.gates(torch.cat([x, h], 1))).chunk(2, dim=1)
        Uh = self.rotate(h, self.theta[0])
        Uh = torch.roll(Uh, 1, dims=1)  # second layer pairs up the other neighbours
        Uh = torch.roll(self.rotate(Uh, self.theta[1]), -1, dims=1)
        h_tilde = self.modrelu(self.W(x) + r * Uh)
        return z * h + (1 - z) * h_tilde


# ----------------------------------------------------------------------------
# 14
# ----------------------------------------------------------------------------
class NBRCCell(nn.Module):
    """Neuromodulated Bistable Recurrent Cell.

    Vecoven, Ernst, Drion, "A bio-inspired bistable recurrent cell allows for
    long-lasting memory", PLoS ONE 2021, https://arxiv.org/abs/2006.05252
    """

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.hidden_size = hidden_size
        self.x2h = nn.Linear(input_size, 3 * hidden_size, bias=True)
        self.h2h = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.xavier_uniform_(self.x2h.weight)
        nn.init.zeros_(self.x2h.bias)
        for w in self.h2h.weight.data.chunk(2):
            nn.init.orthogonal_(w)

    def forward(self, x, h):
        xa, xc, xh = torch.split(self.x2h(x), self.hidden_size, dim=-1)
        ha, hc = torch.split(self.h2h(h), self.hidden_size, dim=-1)
        a = 1.0 + torch.tanh(xa + ha)  # in (0, 2); bistable where a > 1
        c = torch.sigmoid(xc + hc)
        return c * h + (1.0 - c) * torch.tanh(xh + a * h)


# name: (class, features of the states if they differ, where the first has 8)
CELLS = {
    "layernorm_lstm": (LayerNormLSTMCell, None),
    "mogrifier_lstm": (MogrifierLSTMCell, None),
    "rhn": (RHNCell, None),
    "hyper_lstm": (HyperLSTMCell, {"h": 8, "c": 8, "h_hat": 5, "c_hat": 5}),
    "liquid": (LiquidCell, None),
    "slot_attention": (SlotAttentionRNNCell, None),
    "clockwork": (ClockworkCell, {"h": 8, "clock": 1}),
    "eunn": (EUNNCell, None),
    "rk4_ode_rnn": (RK4_ODE_RNN_Cell, None),
    "nested_lstm": (NestedLSTMCell, None),
    "antisymmetric": (AntisymmetricGatedRNNCell, None),
    "statistical_unit": (StatisticalRecurrentUnitCell, None),
    "goru": (GORUCell, None),
    "nbrc": (NBRCCell, None),
}
