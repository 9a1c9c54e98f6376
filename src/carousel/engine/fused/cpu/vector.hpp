// Vectors of `real` in the compiler's portable extension, and their elementary functions.
// Needs `real` and `WIDTH`, the elements of a vector.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

constexpr bool SINGLE = sizeof(real) == 4;
using integer = std::conditional_t<SINGLE, int32_t, int64_t>;
typedef real vec __attribute__((vector_size(WIDTH * sizeof(real))));
typedef integer ivec __attribute__((vector_size(WIDTH * sizeof(real))));

#define UNROLL _Pragma("GCC unroll 32")
#define INLINE static inline __attribute__((always_inline))
#define INLINED __attribute__((always_inline))  // of a lambda

// Subtracting zero changes nothing, so the compiler leaves a broadcast alone; adding it would turn -0 into 0.
INLINE vec splat(real x) { return x - vec{}; }
INLINE ivec isplat(integer x) { return x - ivec{}; }
INLINE vec load(const real* p) { vec v; __builtin_memcpy(&v, p, sizeof v); return v; }
INLINE void store(real* p, vec v) { __builtin_memcpy(p, &v, sizeof v); }

// The first n elements; the others are zero, or left alone.
static __attribute__((noinline)) vec load_some(const real* p, long n) {
  vec v{};
  for (long i = 0; i < n; i++) v[i] = p[i];
  return v;
}
static __attribute__((noinline)) void store_some(real* p, vec v, long n) {
  for (long i = 0; i < n; i++) p[i] = v[i];
}
static __attribute__((noinline)) vec first_some(vec v, long n) {
  for (long i = std::max(n, 0L); i < WIDTH; i++) v[i] = 0;
  return v;
}
INLINE vec load(const real* p, long n) { return __builtin_expect(n >= WIDTH, 1) ? load(p) : load_some(p, n); }
INLINE vec first(vec v, long n) { return __builtin_expect(n >= WIDTH, 1) ? v : first_some(v, n); }
INLINE void store(real* p, vec v, long n) {
  if (__builtin_expect(n >= WIDTH, 1)) store(p, v);
  else store_some(p, v, n);
}

INLINE vec where(ivec test, vec a, vec b) { return test ? a : b; }
INLINE vec bits(ivec v) { return (vec)v; }
INLINE ivec bits(vec v) { return (ivec)v; }
INLINE ivec isnan(vec v) { return v != v; }
INLINE vec abs(vec v) { return bits(bits(v) & isplat(std::numeric_limits<integer>::max())); }
INLINE vec copysign(vec size, vec sign) {
  const ivec top = isplat(std::numeric_limits<integer>::min());
  return bits((bits(size) & ~top) | (bits(sign) & top));
}
INLINE vec min(vec a, vec b) { return where(isnan(a) | (a < b), a, b); }  // nan if either is, as torch has it
INLINE vec max(vec a, vec b) { return where(isnan(a) | (a > b), a, b); }
INLINE vec sign(vec v) { return where(v > 0, splat(1), where(v < 0, splat(-1), v)); }
INLINE vec truth(ivec test) { return where(test, splat(1), vec{}); }

template <class F, class... A> INLINE vec each(F f, A... a) {  // one by one, by the C library
  vec v;
  for (int i = 0; i < WIDTH; i++) v[i] = f(a[i]...);
  return v;
}
#define EACH(f, ...) each([](auto... a) { return f(a...); }, __VA_ARGS__)

INLINE vec sqrt(vec v) { return EACH(std::sqrt, v); }

// e^x = 2^n (1 + p) with n = round(x / ln 2) and p = e^r - 1 by Taylor's series, |r| <= ln 2 / 2: its remainder,
// r^8 / 8! in float and r^14 / 14! in double, is less than half an ulp. For |x| < 2^22 ln 2.
INLINE void exp_parts(vec x, ivec& n, vec& p) {
  constexpr real round = SINGLE ? 12582912.0 : 6755399441055744.0;  // 1.5 * 2^23 or 2^52: no digits after the point
  constexpr real high = SINGLE ? 0.693359375 : 0.6931471803691238164, low = SINGLE ? -2.12194440054690583e-4 : 1.90821492927058770002e-10;
  const vec shifted = x * real(1.4426950408889634074) + round;
  n = bits(shifted) - bits(splat(round));
  const vec whole = shifted - round;
  const vec r = (x - whole * high) - whole * low;
  vec q;
  if constexpr (SINGLE) {
    q = splat(1.0 / 5040);
  } else {
    q = splat(1.0 / 6227020800.0);
    q = q * r + real(1.0 / 479001600.0);
    q = q * r + real(1.0 / 39916800.0);
    q = q * r + real(1.0 / 3628800.0);
    q = q * r + real(1.0 / 362880.0);
    q = q * r + real(1.0 / 40320.0);
    q = q * r + real(1.0 / 5040);
  }
  q = q * r + real(1.0 / 720);
  q = q * r + real(1.0 / 120);
  q = q * r + real(1.0 / 24);
  q = q * r + real(1.0 / 6);
  q = q * r + real(0.5);
  p = q * (r * r) + r;
}

constexpr int MANTISSA = SINGLE ? 23 : 52, BIAS = SINGLE ? 127 : 1023;
INLINE vec power_of_two(ivec n) { return bits((n + BIAS) << MANTISSA); }  // for normal results

INLINE vec exp(vec x) {
  const vec lowest = splat(SINGLE ? -104 : -746), highest = splat(SINGLE ? 89 : 710);
  ivec n;
  vec p;
  exp_parts(where(x < lowest, lowest, where(x > highest, highest, x)), n, p);
  const ivec half = n >> 1;  // in two factors, so that denormal results are rounded and overflow is infinite
  const vec a = power_of_two(half), b = power_of_two(n - half);
  return (a + a * p) * b;
}

// n / d for d in [1, 2], which the divider would take longer for: a cubic whose error 1 - d r is T_4(2d - 3) / 577
// (Chebyshev's polynomial, 1 at d = 0), then Newton's steps, and one on the quotient itself.
INLINE vec ratio(vec n, vec d) {
  vec r = ((real(-128.0 / 577) * d + real(768.0 / 577)) * d - real(1696.0 / 577)) * d + real(1632.0 / 577);
  r += r * (1 - d * r);
  if (!SINGLE) r += r * (1 - d * r);
  const vec q = n * r;
  return q + r * (n - d * q);
}

INLINE vec sigmoid(vec x) {  // e = e^-|x| scaled in two steps, so that denormal results are rounded
  constexpr int guard = MANTISSA + 2;
  const vec lowest = splat(SINGLE ? -104 : -746), a = -abs(x);
  ivec n;
  vec p;
  exp_parts(where(a < lowest, lowest, a), n, p);
  const vec s = power_of_two(n + guard), e = (s + s * p) * power_of_two(isplat(-guard));
  return ratio(where(x < 0, e, splat(1)), 1 + e);
}

INLINE vec tanh(vec x) {  // with e = e^-2|x| - 1
  const vec lowest = splat(-80), a = -2 * abs(x);
  ivec n;
  vec p;
  exp_parts(where(a < lowest, lowest, a), n, p);
  const vec s = power_of_two(n), e = s * p + (s - 1);
  return copysign(ratio(-e, 2 + e), x);
}
