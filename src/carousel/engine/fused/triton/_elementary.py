"""Elementary functions of which Triton's interpreter, which has no libdevice, lacks an accurate form.

Read as text, to stand before each kernel in one source; `triton.jit` makes of it what the kernel is.
"""

import triton
import triton.language as tl


@triton.jit
def expm1(x):  # e^x - 1 loses digits near zero; there it is Taylor's series, to half an ulp
    small = tl.abs(x) < 0.5
    r = tl.where(small, x, 0.0)
    p = r * (1.0 / 362880) + 1.0 / 40320
    if x.dtype == tl.float64:
        p = r * (1.0 / 1307674368000) + 1.0 / 87178291200
        p = r * p + 1.0 / 6227020800
        p = r * p + 1.0 / 479001600
        p = r * p + 1.0 / 39916800
        p = r * p + 1.0 / 3628800
        p = r * p + 1.0 / 362880
        p = r * p + 1.0 / 40320
    p = r * p + 1.0 / 5040
    p = r * p + 1.0 / 720
    p = r * p + 1.0 / 120
    p = r * p + 1.0 / 24
    p = r * p + 1.0 / 6
    p = r * p + 0.5
    return tl.where(small, x + r * r * p, tl.exp(x) - 1.0)


@triton.jit
def log1p(x):  # what is lost in 1 + x comes in again as a term of first order
    u = 1.0 + x
    inside = (u > 0.0) & (u < float("inf")) & (x != 0.0)
    v = tl.where(inside, u, 1.0)
    y = tl.log(v) + (tl.where(inside, x, 0.0) - (v - 1.0)) / v
    return tl.where(inside, y, tl.where(x == 0.0, x, tl.log(u)))


@triton.jit
def tanh(x):
    e = expm1(-2.0 * tl.abs(x))
    y = e / (2.0 + e)
    return tl.where(x > 0.0, -y, tl.where(x < 0.0, y, x))


@triton.jit
def sigmoid(x):
    e = tl.exp(-tl.abs(x))
    return tl.where(x < 0.0, e, 1.0) / (1.0 + e)


@triton.jit
def greater(a, b):  # nan if either is
    return tl.where((a != a) | (a > b), a, b)


@triton.jit
def smaller(a, b):
    return tl.where((a != a) | (a < b), a, b)


@triton.jit
def sign(x):
    return tl.where(x > 0.0, 1.0, 0.0).to(x.dtype) - tl.where(x < 0.0, 1.0, 0.0).to(x.dtype)


@triton.jit
def whole(x):  # towards zero
    return tl.where(x < 0.0, tl.ceil(x), tl.floor(x))


@triton.jit
def nearest(x):  # half to even
    low = tl.floor(x)
    rest = x - low
    odd = low - 2.0 * tl.floor(0.5 * low)
    return tl.where((rest > 0.5) | ((rest == 0.5) & (odd == 1.0)), low + 1.0, low)


@triton.jit
def remainder(a, b):  # with the sign of b
    rest = a % b
    return tl.where((rest != 0.0) & ((b < 0.0) != (rest < 0.0)), rest + b, rest)


@triton.jit
def floor_divide(a, b):  # as Python does it: a quotient that is rounded up to a whole number is not
    rest = a % b
    low = tl.where((rest != 0.0) & ((b < 0.0) != (rest < 0.0)), 1.0, 0.0).to(a.dtype)
    return tl.where(b == 0.0, a / b, nearest((a - rest) / b - low))


@triton.jit
def plus(a, b):
    return a + b
