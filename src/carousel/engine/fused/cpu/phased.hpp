// A step of several phases, over a whole sequence: products and sums over the units, with elementwise arithmetic between.
//
// The batch is split among threads, and each thread's part into groups of a few sequences, which go through all steps by
// themselves; so nothing waits for anything. Of each sequence a row of memory holds what passes from phase to phase, each
// vector padded to whole blocks of WIDTH units; padding may hold anything, as long as nothing adds it up. The gradients of
// weights are added up over some steps at a time (a chunk), of which a ring keeps what they are made of.
//
// Needs, from the emitted part: PARAMETERS, STATES and SIZE of each, SHARE, INPUTS (the features that a step reads), OWN,
// PACKED, OUTER (numbers in the packed vectors and matrices, and in the gradients of these), ROW, RING, SAVED (of a row),
// WORK (multiply-adds in a step); the tables COPIES, PIECES and OUTERS; and the functions step_forward, step_backward and
// add_outers.

constexpr long GROUP = 64;  // sequences
constexpr long FEW = 16;    // chunks whose products are added up in `real`

constexpr long blocks_of(long n) { return (n + WIDTH - 1) / WIDTH; }

struct Copy {  // a vector among the parameters, and where it stands packed
  int parameter;
  long from, n, to;
};
// A matrix in a parameter, element (j, i) at offset + j * row + i * column, of `rows` times `columns`; packed it is at row
// k + i and column n + j of a product's weights, which have `depth` rows and stand at `to`, tile by tile.
struct Piece {
  int parameter;
  long offset, row, column, rows, columns, to, tile, depth, k, n;
  long at(long j, long i) const {
    const long width = tile * WIDTH, c = n + j;
    return to + (c / width * depth + k + i) * width + c % width;
  }
};

// [the tables]

struct Row {  // of one sequence in one step
  const real *x, *before, *d;  // the inputs; the states before the step (backwards state 0 alone); the gradients arriving
  real *s, *next, *kept, *q, *d_before, *d_x;
  long b, tb;
};

struct Problem {
  long T, B, threads, openmp;
  const real* x;  // (T, B, INPUTS)
  const real *weights[PARAMETERS + 1] = {}, *state[STATES];
  const unsigned char* reset;  // (T, B)
  const real *recurrent, *share[STATES];
  real *out, *saved;

  Problem(const long* n, Pointers& p) : T(n[0]), B(n[1]), threads(min(n[2], n[1])), openmp(n[3]) {
    x = p.take<const real>();
    for (int k = 0; k < PARAMETERS; k++) weights[k] = p.take<const real>();
    for (auto& s : state) s = p.take<const real>();
    reset = p.take<const unsigned char>(), recurrent = p.take<const real>();
    for (auto& s : share) s = p.take<const real>();
    out = p.take<real>(), saved = p.take<real>();
    if (double(T) * B * WORK < 2e5) threads = 1;
  }
  void pack(real* packed, real* own, long thread, long all) const {
    for (const Copy& c : COPIES)
      if (thread == 0 && c.n) std::memcpy(own + c.to, weights[c.parameter] + c.from, c.n * sizeof(real));
    for (const Piece& p : PIECES) {
      const Range some = part(p.rows, thread, all);
      for (long j = some.begin; j < some.end; j++)
        for (long i = 0; i < p.columns; i++)
          packed[p.at(j, i)] = weights[p.parameter][p.offset + j * p.row + i * p.column];
    }
  }
};

// to(row) = from(row) times a matrix, for the columns below n, in tiles of F blocks.
template <int F, class From, class To>
INLINE void product(long rows, const real* weights, long n, long depth, long panels, long step, From from, To to) {
  for_products<F, 1>({0, (blocks_of(n) + F - 1) / F}, n, {0, rows}, weights, nullptr, depth, panels, step, from,
                     [&](long row, long block, const vec* sum) INLINED { store(to(row) + block * WIDTH, *sum); });
}
static real sum_of(const real* p, long n) {
  vec v{};
  for (long i = 0; i < n; i += WIDTH) v += load(p + i, n - i);
  real sum = 0;
  for (int i = 0; i < WIDTH; i++) sum += v[i];
  return sum;
}
static real largest_of(const real* p, long n) {  // nan if one is
  real most = p[0];
  for (long i = 1; i < n; i++) most = most != most || p[i] <= most ? most : p[i];
  return most;
}
template <class F>
INLINE void reduce(F f, const real* from, real* to, long n, long segments) {
  if (segments == 1) return void(*to = f(from, n));
  for (long k = 0, size = n / segments; k < segments; k++, from += size) {
    const real value = f(from, size);
    for (long i = 0; i < size; i++) *to++ = value;
  }
}
INLINE void put(real* p, vec v) { store(p, v); }
INLINE void put(real* p, ivec v) { store(p, bits(v)); }
INLINE void put(real* p, vec v, long n) { store(p, v, n); }
INLINE void put(real* p, ivec v, long n) { store(p, bits(v), n); }
INLINE void put_one(real* p, vec v) { *p = v[0]; }
INLINE void put_one(real* p, ivec v) { std::memcpy(p, &v, sizeof *p); }
// [the steps]
#ifdef BACKWARDS
extern "C" int backward(const long* sizes, void** pointers) try {
  Pointers p{pointers};
  const Problem c(sizes, p);
  const real *const d_out = p.take<const real>(), *d_last[STATES];
  for (auto& d : d_last) d = p.take<const real>();
  real *const d_x = p.take<real>(), *d_weights[PARAMETERS + 1] = {}, *d_state[STATES];
  for (int k = 0; k < PARAMETERS; k++) d_weights[k] = p.take<real>();
  for (auto& d : d_state) d = p.take<real>();
  double* const norms = p.take<double>();
  Buffer<real> packed(PACKED), own(OWN);
  Barrier everyone;
  struct Sums {
    Buffer<real> products;
    Buffer<double> earlier, own;
    explicit Sums(bool many) : products(OUTER), earlier(many ? OUTER : 0), own(OWN) {}
    double product(long at) const { return products[at] + (earlier ? earlier[at] : 0.0); }
    void put_away() {
      for (long i = 0; earlier && i < OUTER; i++) earlier[i] += products[i], products[i] = 0;
    }
  };
  Slots<Sums> sums(c.threads);

  in_parallel(c.threads, c.openmp, [&](int thread, int all) {
    c.pack(packed, own, thread, all);
    const Range rows_of_mine = part(c.B, thread, all);
    Sums& mine = *(sums[thread] = new Sums(rows_of_mine.size() * c.T > FEW * CHUNK));
    everyone.wait(all);
    const long groups = (rows_of_mine.size() + GROUP - 1) / GROUP;
    for (long g = 0; g < groups; g++) {
      Range rows = part(rows_of_mine.size(), g, groups);
      const long n = rows.size(), b0 = rows_of_mine.begin + rows.begin;
      const long chunk = max(1, min(c.T, CHUNK / n));
      Buffer<real> memory(n * ROW), carried(2 * n * CARRIED), ring(chunk * n * RING);
      Buffer<doubles> norm(n * STATES);
      Buffer<Row> at(n);
      long since = 0;
      for (long row = 0; row < n; row++)
        for (int k = 0; k < STATES; k++)
          if (d_last[k])
            std::memcpy(carried + row * CARRIED + STATE_AT[k], d_last[k] + (b0 + row) * SIZE[k], SIZE[k] * sizeof(real));
      for (long back = 0; back < c.T; back++) {
        const long t = c.T - 1 - back, slot = back % chunk;
        for (long row = 0; row < n; row++) {
          const long b = b0 + row, tb = t * c.B + b;
          real* const d = carried + (back % 2 * n + row) * CARRIED;
          if (d_out)
            for (long i = 0; i < SIZE[0]; i++) d[STATE_AT[0] + i] += d_out[tb * SIZE[0] + i];
          at[row] = {c.x + tb * INPUTS,
                     t ? c.out + (tb - c.B) * SIZE[0] : c.state[0] + b * SIZE[0],
                     d,
                     memory + row * ROW,
                     nullptr,
                     c.saved + tb * SAVED,
                     ring + (slot * n + row) * RING,
                     carried + ((back + 1) % 2 * n + row) * CARRIED,
                     d_x ? d_x + tb * INPUTS : nullptr,
                     b,
                     tb};
        }
        if (norms) std::memset((void*)norm.data, 0, n * STATES * sizeof(doubles));
        step_backward(c, at, n, packed, own, mine.own, norms ? norm.data : nullptr);
        for (long i = 0; norms && i < n * STATES; i++)
          for (int v = 0; v < WIDTH / 2; v++) norms[(t * c.B + b0) * STATES + i] += norm[i][v];
        if (slot < chunk - 1 && t > 0) continue;
        add_outers(mine.products, ring, (slot + 1) * n);
        since += (slot + 1) * n;
        if (since >= FEW * CHUNK) mine.put_away(), since = 0;
      }
      for (long row = 0; row < n; row++)
        for (int k = 0; k < STATES; k++)
          if (d_state[k])
            std::memcpy(d_state[k] + (b0 + row) * SIZE[k], carried + (c.T % 2 * n + row) * CARRIED + STATE_AT[k],
                        SIZE[k] * sizeof(real));
    }
    everyone.wait(all);
    // Add up the threads' parts. What several matrices share is added to one by one.
    auto total = [&](auto of) {
      double sum = 0;
      for (Sums* s : sums)
        if (s) sum += of(*s);
      return sum;
    };
    for (const Piece& p : OUTERS) {
      real* const to = d_weights[p.parameter];
      const Range some = SHARED ? Range{0, thread ? 0 : p.rows} : part(p.rows, thread, all);
      for (long j = some.begin; j < some.end && to; j++)
        for (long i = 0; i < p.columns; i++)
          to[p.offset + j * p.row + i * p.column] += total([&](Sums& s) { return s.product(p.at(j, i)); });
    }
    if (SHARED) everyone.wait(all);
    for (const Copy& p : COPIES)
      for (long i = 0; thread == 0 && d_weights[p.parameter] && i < p.n; i++)
        d_weights[p.parameter][p.from + i] += total([&](Sums& s) { return s.own[p.to + i]; });
  });
  return 0;
} catch (const std::bad_alloc&) { return 1; }
#else
extern "C" int forward(const long* sizes, void** pointers) try {
  Pointers p{pointers};
  const Problem c(sizes, p);
  real* last[STATES];
  for (auto& s : last) s = p.take<real>();
  Buffer<real> packed(PACKED), own(OWN);
  Buffer<real>::advise(c.out, c.T * c.B * SIZE[0] * sizeof(real));
  if (c.saved) Buffer<real>::advise(c.saved, c.T * c.B * SAVED * sizeof(real));
  Barrier everyone;
  in_parallel(c.threads, c.openmp, [&](int thread, int all) {
    c.pack(packed, own, thread, all);
    everyone.wait(all);
    const Range rows_of_mine = part(c.B, thread, all);
    const long groups = (rows_of_mine.size() + GROUP - 1) / GROUP;
    for (long g = 0; g < groups; g++) {
      Range rows = part(rows_of_mine.size(), g, groups);
      const long n = rows.size(), b0 = rows_of_mine.begin + rows.begin;
      Buffer<real> memory(n * ROW), states(2 * n * CARRIED);
      Buffer<Row> at(n);
      for (long row = 0; row < n; row++)
        for (int k = 0; k < STATES; k++)
          std::memcpy(states + row * CARRIED + STATE_AT[k], c.state[k] + (b0 + row) * SIZE[k], SIZE[k] * sizeof(real));
      for (long t = 0; t < c.T; t++) {
        for (long row = 0; row < n; row++) {
          const long b = b0 + row, tb = t * c.B + b;
          at[row] = {c.x + tb * INPUTS,
                     states + (t % 2 * n + row) * CARRIED,
                     nullptr,
                     memory + row * ROW,
                     states + ((t + 1) % 2 * n + row) * CARRIED,
                     c.saved ? c.saved + tb * SAVED : nullptr,
                     nullptr,
                     nullptr,
                     nullptr,
                     b,
                     tb};
        }
        step_forward(c, at, n, packed, own);
      }
      for (long row = 0; row < n; row++)
        for (int k = 0; k < STATES; k++)
          std::memcpy(last[k] + (b0 + row) * SIZE[k], states + (c.T % 2 * n + row) * CARRIED + STATE_AT[k],
                      SIZE[k] * sizeof(real));
    }
  });
  return 0;
} catch (const std::bad_alloc&) { return 1; }
#endif
