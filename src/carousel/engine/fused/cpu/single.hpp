// The recurrence over a whole sequence, forwards and backwards, around a cell's elementwise functions.
//
// The batch is split among teams of threads; a team's members split the hidden units and meet at a barrier in every
// step, a team of one never waits. Units stand in blocks of WIDTH, the last one padded with zeros. Weights are packed
// so that a tile (a few sequences, a few blocks) keeps all its sums in registers; the cell's own arithmetic takes them
// from a small buffer on the stack. Products with x, and the gradients of the weights, are done for some steps at a
// time (a chunk), while what they read is in the cache.
//
// Needs, from the emitted part: GX and GU, the blocks of W x and U h; D gradients of these per unit, of which the
// first DU are U h's and those from D_X on are W x's, block g of them at X_AT[g] and U_AT[g]; STATES, OWN, SAVED;
// FORWARD and BACKWARD, blocks of units in a tile; REGISTERS; what the cell uses, as booleans; and the functions on a
// `Unit`.

struct Unit {  // what the elementwise functions read: one block of units of one sequence
  vec wx[GX + 1], uh[GU + 1], state[STATES], own[OWN + 1], share[STATES], recurrent, d_new[STATES], d_seen, out, d_out;
  ivec reset;
};

// [the cell]

struct Problem {
  long T, B, I, H, P;                    // P features of h: H without a projection
  long x_t, x_b, threads, team, openmp;  // strides of x; members of a team, 0 to choose
  const real *x, *wx;                    // (T, B, I), or instead the input map's result (T, B, GX * H)
  const real *w_x, *b_x, *w_h, *b_h, *w_r, *own, *state[STATES];
  const unsigned char* reset;  // (T, B)
  const real *recurrent, *share[STATES];
  real *out, *saved;

  explicit Problem(const long* n, Pointers& p)
      : T(n[0]), B(n[1]), I(n[2]), H(n[3]), P(n[4]), x_t(n[5]), x_b(n[6]), threads(n[7]), team(n[8]), openmp(n[9]) {
    x = p.take<const real>(), wx = p.take<const real>();
    w_x = p.take<const real>(), b_x = p.take<const real>(), w_h = p.take<const real>(), b_h = p.take<const real>();
    w_r = p.take<const real>(), own = p.take<const real>();
    for (auto& s : state) s = p.take<const real>();
    reset = p.take<const unsigned char>(), recurrent = p.take<const real>();
    for (auto& s : share) s = p.take<const real>();
    out = p.take<real>(), saved = p.take<real>();
    if (double(T) * B * H * (GX * I + GU * P) < 2e5) threads = 1;
  }

  static long padded(long n) { return (n + PAD * WIDTH - 1) / (PAD * WIDTH) * PAD; }
  long blocks() const { return padded(H); }
  long out_blocks() const { return padded(P); }
  long valid(long block) const { return H - block * WIDTH; }
  long out_valid(long block) const { return P - block * WIDTH; }

  // How many threads make a team. Alone, a thread reads all of U in every step; in a team a share of it, but the team
  // has to wait for its slowest member. With few sequences per thread, or a U beyond the cache, that is the better way.
  long members(long all) const {
    if (team) return min(team, all);
    long m = 1;
    long cache = 1 << 20;
#ifdef _SC_LEVEL2_CACHE_SIZE
    cache = max(cache, sysconf(_SC_LEVEL2_CACHE_SIZE) / 4 * 3);
#endif
    while (m * 2 <= all && all % (m * 2) == 0 && (B * m < 4 * all || long(GU * H * P * sizeof(real)) > m * cache))
      m *= 2;
    return m;
  }

  // What a unit sees of the masks in step t; OUT if it is a unit of the output, which a projection tells apart.
  template <bool OUT>
  INLINE void masks(const Problem& c, Unit& u, long t, long b, long block) {
    const long n = OUT ? c.out_valid(block) : c.valid(block), at = block * WIDTH;
    if constexpr (RESET) u.reset = isplat(-(integer)(c.reset[t * c.B + b] != 0));
    if constexpr (RECURRENT && (OUT || !PROJECTED)) u.recurrent = load(c.recurrent + b * c.P + at, n);
    UNROLL
    for (int k = 0; k < STATES; k++) {
      if (SHARE[k] == 0 || (PROJECTED && OUT != (k == 0))) continue;
      const real* s = c.share[k] + (t * c.B + b) * (SHARE[k] == 1 ? 1 : k ? c.H : c.P);
      u.share[k] = SHARE[k] == 1 ? splat(*s) : load(s + at, n);
    }
  }
};

// to[tile][k][block of the tile][gate][unit] = from[gate * H + unit][k]
INLINE void pack(real* to, const real* from, long H, long K, int gates, long tile, Range tiles) {
  for (long block = tiles.begin * tile; block < tiles.end * tile; block++)
    for (int g = 0; g < gates; g++) {
      const long units = min(WIDTH, H - block * WIDTH);
      const real* row = from + (g * H + block * WIDTH) * K;
      real* line = to + ((block / tile * K * tile + block % tile) * gates + g) * WIDTH;
      for (long k = 0; k < K; k++, line += tile * gates * WIDTH)
        for (long v = 0; v < units; v++) line[v] = row[v * K + k];
    }
}

// to[tile of columns][block][gate][unit][columns of the tile] = from[gate * H + unit][column], for the adjoint
template <class At>
void pack_transposed(real* to, const real* from, long H, long K, long blocks, int gates, int slots, long tile,
                     Range tiles, At at) {
  const long width = tile * WIDTH;
  for (long j = tiles.begin; j < tiles.end; j++)
    for (int g = 0; g < gates; g++)
      for (long unit = 0; unit < H; unit++) {
        const real* row = from + (g * H + unit) * K + j * width;
        const long n = min(width, K - j * width);
        real* line = to + (((j * blocks + unit / WIDTH) * slots + at(g)) * WIDTH + unit % WIDTH) * width;
        for (long k = 0; k < n; k++) line[k] += row[k];
      }
}

struct Place {  // of a thread among the others
  long thread, all, member, members, team, teams;
  Range rows;
  Place(const Problem& c, int thread, int all) : thread(thread), all(all), members(c.members(all)) {
    team = thread / members, teams = all / members, member = thread % members;
    rows = team < teams ? part(c.B, team, teams) : Range{0, 0};
  }
  Range share(long n) const { return part(n, member, members); }  // of a team's work
  Range job(long n) const { return part(n, thread, all); }        // of what all do together
};
