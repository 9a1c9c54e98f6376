// The gradients of weights: sums of products over many places, each a step of a sequence.

// to[r][c] += sum over runs and i of a[run * a_run + i * a_step + r] * b[run * b_run + i * b_step + c], i < rows; c is C
// vectors in each of PANELS, `apart` from each other.
template <int R, int C, int PANELS>
__attribute__((noinline)) void outer_rows(real* to, long to_row, long to_panel, const real* a, long a_run, long a_step,
                                          const real* b, long b_run, long b_step, long apart, long runs, long rows) {
  vec sums[R][PANELS][C];
  UNROLL
  for (int r = 0; r < R; r++) UNROLL
  for (int p = 0; p < PANELS; p++) UNROLL
  for (int c = 0; c < C; c++) sums[r][p][c] = vec{};
  for (long run = 0; run < runs; run++, a += a_run, b += b_run) {
    const real *x = a, *y = b;
    for (long i = 0; i < rows; i++, x += a_step, y += b_step) {
      vec w[PANELS][C];
      UNROLL
      for (int p = 0; p < PANELS; p++) UNROLL
      for (int c = 0; c < C; c++) w[p][c] = load(y + p * apart + c * WIDTH);
      UNROLL
      for (int r = 0; r < R; r++) {
        const vec factor = splat(x[r]);
        UNROLL
        for (int p = 0; p < PANELS; p++) UNROLL
        for (int c = 0; c < C; c++) sums[r][p][c] += factor * w[p][c];
      }
    }
  }
  UNROLL
  for (int r = 0; r < R; r++) UNROLL
  for (int p = 0; p < PANELS; p++) UNROLL
  for (int c = 0; c < C; c++) {
    real* const place = to + r * to_row + p * to_panel + c * WIDTH;
    store(place, load(place) + sums[r][p][c]);
  }
}
template <int C, int PANELS, int R = rows_of_tile(C* PANELS), class... A>
INLINE void outer(int height, A... arguments) {
  if constexpr (C > 0 && R > 0) {
    if (height == R)
      outer_rows<R, C, PANELS>(arguments...);
    else
      outer<C, PANELS, R - 1>(height, arguments...);
  }
}

// to[block][k][c] += sum over the places of a[place][k] * panels[block][place][c], c < C vectors. The places are `runs`
// runs of `rows` each; about CHUNK of them are added up by themselves, since a long sum of small terms loses digits.
template <int C, int PANELS>
INLINE void add_products(real* to, const real* a, long a_run, long a_step, long K, const real* panels, long step,
                         long apart, Range blocks, long runs, long rows) {
  const Tiles<C * PANELS> tiles{K};
  const long parts = (runs * rows + CHUNK - 1) / CHUNK;
  for (long j = blocks.begin; j < blocks.end; j += PANELS)
    for (long k = 0; k < tiles.count; k++)
      for (long i = 0; i < parts; i++) {
        const Range tile = tiles[k], some = part(rows, i, parts);
        outer<C, PANELS>(tile.size(), to + (j * K + tile.begin) * C * WIDTH, C * WIDTH, K * C * WIDTH,
                         a + some.begin * a_step + tile.begin, a_run, a_step, panels + j * apart + some.begin * step,
                         rows * step, step, apart, runs, some.size());
      }
}

typedef real half __attribute__((vector_size(WIDTH * sizeof(real) / 2)));
typedef double doubles __attribute__((vector_size(WIDTH * sizeof(double) / 2)));
struct Doubles {  // a vector in double precision
  doubles low, high;
  explicit Doubles(vec v) {
    half parts[2];
    __builtin_memcpy(parts, &v, sizeof v);
    low = __builtin_convertvector(parts[0], doubles), high = __builtin_convertvector(parts[1], doubles);
  }
};
INLINE doubles squares(vec v) {  // in double, where they do not underflow; the two halves added up
  const Doubles d(v);
  return d.low * d.low + d.high * d.high;
}
INLINE void add(double* to, vec v) {
  const Doubles d(v);
  for (int i = 0; i < WIDTH / 2; i++) to[i] += d.low[i], to[i + WIDTH / 2] += d.high[i];
}
