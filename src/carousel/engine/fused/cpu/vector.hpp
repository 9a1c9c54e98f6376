// Vectors of `real` in the compiler's portable extension, and their elementary functions.
// Needs `real` and `WIDTH`, the elements of a vector.

// Small headers alone: <cmath>, <thread> and <memory> take as long to read as a step to optimize.
#include <pthread.h>
#include <sys/mman.h>
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#endif
#include <unistd.h>

#include <atomic>
#include <cfenv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>

constexpr bool SINGLE = sizeof(real) == 4;
using integer = std::conditional_t<SINGLE, int32_t, int64_t>;
typedef real vec __attribute__((vector_size(WIDTH * sizeof(real))));
typedef integer ivec __attribute__((vector_size(WIDTH * sizeof(real))));
constexpr real INF = std::numeric_limits<real>::infinity(), NO_NUMBER = std::numeric_limits<real>::quiet_NaN();

#define UNROLL _Pragma("GCC unroll 32")
#define INLINE static inline __attribute__((always_inline))
#define INLINED __attribute__((always_inline))  // of a lambda

constexpr long min(long a, long b) { return a < b ? a : b; }
constexpr long max(long a, long b) { return a > b ? a : b; }

// Subtracting zero changes nothing, so the compiler leaves a broadcast alone; adding it would turn -0 into 0.
INLINE vec splat(real x) { return x - vec{}; }
INLINE ivec isplat(integer x) { return x - ivec{}; }
INLINE ivec flag(unsigned char truth) { return isplat(-(integer)(truth != 0)); }
INLINE vec load(const real* p) {
  vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
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
  for (long i = max(n, 0); i < WIDTH; i++) v[i] = 0;
  return v;
}
INLINE vec load(const real* p, long n) { return __builtin_expect(n >= WIDTH, 1) ? load(p) : load_some(p, n); }
INLINE vec first(vec v, long n) { return __builtin_expect(n >= WIDTH, 1) ? v : first_some(v, n); }
INLINE void store(real* p, vec v, long n) {
  if (__builtin_expect(n >= WIDTH, 1))
    store(p, v);
  else
    store_some(p, v, n);
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

template <class F, class... A>
INLINE vec each(F f, A... a) {
  vec v;
  for (int i = 0; i < WIDTH; i++) v[i] = f(a[i]...);
  return v;
}
// One by one, by the C library.
#define EACH(function, ...)                     \
  each(                                         \
      [](auto... a) {                           \
        if constexpr (SINGLE)                   \
          return __builtin_##function##f(a...); \
        else                                    \
          return __builtin_##function(a...);    \
      },                                        \
      __VA_ARGS__)

INLINE vec remainder(vec a, vec b) {  // with the sign of b
  const vec rest = EACH(fmod, a, b);
  return where((rest != 0) & ((b < 0) != (rest < 0)), rest + b, rest);
}
INLINE vec floor_divide(vec a, vec b) {  // as Python does it: a quotient that is rounded up to a whole number is not
  const vec rest = EACH(fmod, a, b), low = truth((rest != 0) & ((b < 0) != (rest < 0)));
  const vec quotient = EACH(nearbyint, (a - rest) / b - low);
  return where(b == 0, a / b, where(quotient == 0, copysign(quotient, a / b), quotient));
}
INLINE vec sqrt(vec v) { return EACH(sqrt, v); }

// e^x = 2^n (1 + p) with n = round(x / ln 2) and p = e^r - 1, |r| <= ln 2 / 2. In float, p / r^2 - 1 / r is a
// polynomial fitted to 3e-9; in double it is Taylor's, with a remainder below half an ulp. Rounding is by adding a
// number so large that no digits remain after the point; `offset` comes along in its last bits, which are n + offset.
INLINE void exp_parts(vec x, integer offset, ivec& n, vec& p) {
  const real round = (SINGLE ? 12582912.0 : 6755399441055744.0) + offset;  // 1.5 * 2^23, 1.5 * 2^52
  constexpr real high = SINGLE ? 0.693359375 : 0.6931471803691238164;
  constexpr real low = SINGLE ? -2.12194440054690583e-4 : 1.90821492927058770002e-10;
  const vec shifted = x * real(1.4426950408889634074) + round;
  n = bits(shifted);
  const vec whole = shifted - round, r = (x - whole * high) - whole * low;
  vec q;
  if constexpr (SINGLE) {
    q = splat(1.39504903e-3);
    q = q * r + real(8.36888945e-3);
    q = q * r + real(4.16662058e-2);
    q = q * r + real(0.166665188);
    q = q * r + real(0.50000001);
  } else {
    q = splat(1.0 / 6227020800.0);
    q = q * r + real(1.0 / 479001600.0);
    q = q * r + real(1.0 / 39916800.0);
    q = q * r + real(1.0 / 3628800.0);
    q = q * r + real(1.0 / 362880.0);
    q = q * r + real(1.0 / 40320.0);
    q = q * r + real(1.0 / 5040);
    q = q * r + real(1.0 / 720);
    q = q * r + real(1.0 / 120);
    q = q * r + real(1.0 / 24);
    q = q * r + real(1.0 / 6);
    q = q * r + real(0.5);
  }
  p = q * (r * r) + r;
}

constexpr int MANTISSA = SINGLE ? 23 : 52, BIAS = SINGLE ? 127 : 1023;
constexpr real LOWEST = SINGLE ? -104 : -746;                                            // below it e^x is zero
INLINE vec at_least(real lowest, vec x) { return where(x < lowest, splat(lowest), x); }  // nan stays nan
INLINE vec minus_abs(vec x) { return bits(bits(x) | isplat(std::numeric_limits<integer>::min())); }

INLINE vec exp(vec x) {
  const vec highest = splat(SINGLE ? 89 : 710);
  ivec n;
  vec p;
  exp_parts(at_least(LOWEST, where(x > highest, highest, x)), 2 * BIAS, n, p);
  const ivec sum = n & integer(4 * BIAS + 3), half = sum >> 1;  // in two factors, so that denormal results are rounded
  const vec s = bits(half << MANTISSA);                         // and overflow is infinite
  return (s + s * p) * bits((sum - half) << MANTISSA);
}

INLINE vec sigmoid(vec x) {
  constexpr int guard = MANTISSA + 2;  // bits that e^-|x| is scaled by first, so that a denormal is rounded once
  ivec n;
  vec p;
  exp_parts(at_least(LOWEST, minus_abs(x)), BIAS + guard, n, p);
  const vec s = bits(n << MANTISSA), e = (s + s * p) * real(1.0 / (int64_t(1) << guard));
  return where(x < 0, e, splat(1)) / (1 + e);
}

INLINE vec tanh(vec x) {  // with e = e^-2|x| - 1
  ivec n;
  vec p;
  exp_parts(at_least(-80, 2 * minus_abs(x)), BIAS, n, p);
  const vec s = bits(n << MANTISSA), e = s * p + (s - 1);
  return copysign(-e / (2 + e), x);
}
