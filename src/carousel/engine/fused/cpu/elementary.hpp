// More elementary functions, in vectors: within 2 ulp in float; in double log, log1p and expm1 are, the others are the C
// library's, one by one.

// log x = k ln 2 + log(1 + f) with 1 + f in [1/sqrt 2, sqrt 2): with s = f / (2 + f) the latter is f - f^2 / 2 + s (f^2 / 2
// + R), R a polynomial in s^2 (fdlibm's e_log.c and e_logf.c).
INLINE vec log(vec x) {
  constexpr real tiny = std::numeric_limits<real>::min(), scale = SINGLE ? 33554432.0 : 18014398509481984.0;
  constexpr real high = SINGLE ? 6.9313812256e-01 : 6.93147180369123816490e-01;
  constexpr real low = SINGLE ? 9.0580006145e-06 : 1.90821492927058770002e-10;
  constexpr integer root = SINGLE ? 0x3f3504f3 : 0x3fe6a09e667f3bcd;  // 1 / sqrt 2
  const ivec denormal = x < tiny;
  const ivec i = bits(where(denormal, x * scale, x)) - root;
  const ivec n = (i >> MANTISSA) - (denormal & integer(SINGLE ? 25 : 54));
  const vec f = bits((i & ((integer(1) << MANTISSA) - 1)) + root) - 1, s = f / (2 + f), z = s * s;
  vec r;
  if constexpr (SINGLE) {
    r = z * (real(0.66666662693) + z * (real(0.40000972152) + z * (real(0.28498786688) + z * real(0.24279078841))));
  } else {
    r = splat(1.479819860511658591e-01);
    r = r * z + real(1.531383769920937332e-01);
    r = r * z + real(1.818357216161805012e-01);
    r = r * z + real(2.222219843214978396e-01);
    r = r * z + real(2.857142874366239149e-01);
    r = r * z + real(3.999999999940941908e-01);
    r = r * z + real(6.666666666666735130e-01);
    r = r * z;
  }
  const vec half = f * f * real(0.5), k = __builtin_convertvector(n, vec);
  const vec y = k * high - ((half - (s * (half + r) + k * low)) - f);
  const vec edge = where(x == 0, splat(-INF), where(x < 0, splat(NO_NUMBER), x));  // infinity and nan are themselves
  return where((x > 0) & (x < INF), y, edge);
}

INLINE vec log1p(vec x) {  // what is lost in 1 + x comes in again as a term of first order
  const vec u = 1 + x, y = log(u) + (x - (u - 1)) / u;
  return where((u > 0) & (u < INF), where(x == 0, x, y), log(u));
}

INLINE vec expm1(vec x) {  // in halves of 2^n, so that overflow is infinite
  const vec highest = splat(SINGLE ? 89 : 710);
  ivec n;
  vec p;
  exp_parts(at_least(SINGLE ? -20 : -40, where(x > highest, highest, x)), BIAS - 1, n, p);
  const vec s = bits(n << MANTISSA);
  return where(abs(x) < real(SINGLE ? 1e-8 : 1e-17), x, 2 * (s * p + (s - real(0.5))));
}

// Of floats, the others are computed in double precision, half a vector at a time.
typedef real part_of_vec __attribute__((vector_size(WIDTH * sizeof(real) / 2)));
typedef double wide __attribute__((vector_size(WIDTH * sizeof(double) / 2)));
typedef int64_t iwide __attribute__((vector_size(WIDTH * sizeof(double) / 2)));
template <class F, class... A>
INLINE vec in_doubles(F f, A... a) {
  part_of_vec parts[2];
  for (int k = 0; k < 2; k++) {
    auto half = [&](vec v) INLINED {
      part_of_vec both[2];
      __builtin_memcpy(both, &v, sizeof v);
      return __builtin_convertvector(both[k], wide);
    };
    parts[k] = __builtin_convertvector(f(half(a)...), part_of_vec);
  }
  vec result;
  __builtin_memcpy(&result, parts, sizeof result);
  return result;
}
INLINE bool all(ivec test) {
  integer every = -1;
  for (int i = 0; i < WIDTH; i++) every &= test[i];
  return every;
}

INLINE wide sine(wide x, int64_t turns) {  // of x + turns pi / 2; x = j pi / 2 + r, pi / 2 in two parts
  constexpr double round = 6755399441055744.0;
  const wide shifted = x * 0.63661977236758134308 + round, j = shifted - round;
  const iwide quadrant = (iwide)shifted + turns;
  const wide r = (x - j * 1.57079632673412561417) - j * 6.07710050650619224932e-11, z = r * r;
  const wide odd = r + r * z * (-1.0 / 6 + z * (1.0 / 120 + z * (-1.0 / 5040 + z * (1.0 / 362880))));
  const wide even = 1 - z / 2 + z * z * (1.0 / 24 + z * (-1.0 / 720 + z * (1.0 / 40320 - z / 3628800)));
  const wide y = (quadrant & 1) != 0 ? even : odd;
  return (quadrant & 2) != 0 ? -y : y;
}
constexpr real FAR = 1e5;  // where the two parts of pi / 2 begin to lose digits
INLINE vec sin(vec x) {
  if constexpr (SINGLE)
    if (__builtin_expect(all(abs(x) < FAR), 1))
      return where(x == 0, x, in_doubles([](wide v) INLINED { return sine(v, 0); }, x));
  return EACH(sin, x);
}
INLINE vec cos(vec x) {
  if constexpr (SINGLE)
    if (__builtin_expect(all(abs(x) < FAR), 1)) return in_doubles([](wide v) INLINED { return sine(v, 1); }, x);
  return EACH(cos, x);
}

INLINE vec erf(vec x) {  // x times a polynomial in x^2 / 8 - 1, fitted to 5e-10; from 4 on it is 1 in float
  if constexpr (SINGLE) {
    constexpr double terms[] = {
      9.73519745592e-05, -0.000246708809077, 0.000158341186612, -0.000324302650892, 0.00143801800722, -0.00291183887384,
      0.00474682963649, -0.00838207425826, 0.0143975680626, -0.0225635976409, 0.0330475858423, -0.0457440017489,
      0.0598889354357, -0.0747305360959, 0.0902088340501, -0.10771028938, 0.13167512178, -0.176576235873,
      0.353530995619};
    const vec inside = where(abs(x) < 4, x, copysign(splat(4), x));
    const vec y = in_doubles(
        [&](wide v) INLINED {
          const wide u = v * v / 8 - 1;
          wide sum = u * 0 + terms[0];
          UNROLL
          for (int k = 1; k < int(sizeof terms / sizeof *terms); k++) sum = sum * u + terms[k];
          return v * sum;
        },
        inside);
    return where(isnan(x), x, y);
  }
  return EACH(erf, x);
}

INLINE vec pow(vec x, vec y) {  // 2^(y log2 x), of positive x
  if constexpr (SINGLE)
    if (__builtin_expect(all((x >= std::numeric_limits<real>::min()) & (x < INF) & (abs(y) < INF)), 1))
      return in_doubles(
          [](wide v, wide w) INLINED {
            const iwide i = (iwide)v - 0x3fe6a09e667f3bcd, n = i >> 52;
            const wide f = (wide)((i & ((int64_t(1) << 52) - 1)) + 0x3fe6a09e667f3bcd) - 1, s = f / (2 + f), z = s * s;
            const wide log2 = __builtin_convertvector(n, wide) +
                              s * (2 * 1.44269504088896340736) *
                                  (1 + z * (1.0 / 3 + z * (1.0 / 5 + z * (1.0 / 7 + z * (1.0 / 9 + z / 11)))));
            wide t = w * log2;
            t = t > 1000 ? t * 0 + 1000 : t < -1000 ? t * 0 - 1000 : t;
            constexpr double round = 6755399441055744.0;
            const wide shifted = t + round, r = (t - (shifted - round)) * 0.69314718055994530942;
            const wide e = 1 + r * (1 + r * (1.0 / 2 + r * (1.0 / 6 + r * (1.0 / 24 + r * (1.0 / 120 + r * (1.0 / 720 +
                           r * (1.0 / 5040 + r / 40320)))))));
            return e * (wide)(((iwide)shifted + 1023) << 52);
          },
          x, y);
  return EACH(pow, x, y);
}
