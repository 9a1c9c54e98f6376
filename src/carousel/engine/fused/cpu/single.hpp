// The recurrence over a whole sequence, forwards and backwards, around a cell's elementwise functions.
//
// The batch is split among teams of threads; a team's members split the hidden units and meet at a barrier in every
// step, a team of one never waits. Units stand in blocks of WIDTH, the last one padded with zeros. Weights are packed
// so that a tile (a few sequences, a few blocks) keeps all its sums in registers; the cell's own arithmetic takes them
// from a small buffer on the stack. Products with x, and the gradients of the weights, are done for some steps at a
// time (a chunk), while what they read is in the cache.
//
// Needs, from the emitted part, the constants above and the functions on a `Unit`.

struct Unit {  // what the elementwise functions read: one block of units of one sequence
  vec wx[GX + 1], uh[GU + 1], state[STATES], extra[EXTRA + 1], update_mask[STATES], recurrent;
  vec d_new[STATES], d_hidden_input, out, d_out;
  ivec reset, detach_gates, detach_carousel;
};

// [the cell]

struct Problem : Arguments {
  explicit Problem(const Arguments& given) : Arguments(given) {
    if (double(T) * B * H * (GX * I + GU * P) < 2e5) threads = 1;
  }

  static long padded(long n) { return (n + PAD * WIDTH - 1) / (PAD * WIDTH) * PAD; }
  long blocks() const { return padded(H); }
  long out_blocks() const { return padded(P); }
  long valid(long block) const { return H - block * WIDTH; }
  long out_valid(long block) const { return P - block * WIDTH; }

  long members(long all) const {
    return team ? min(team, all) : members_for(all, B, GU * H * P * sizeof(real), 0);
  }

  // What a unit sees of the masks in step t; OUT if it is a unit of the output, which a projection tells apart.
  template <bool OUT>
  INLINE void masks(const Problem& c, Unit& u, long t, long b, long block) {
    const long n = OUT ? c.out_valid(block) : c.valid(block), at = block * WIDTH;
    if constexpr (RESET) u.reset = flag(c.reset[t * c.B + b]);
    if constexpr (DETACH_GATES) u.detach_gates = flag(c.detach_gates[t * c.B + b]);
    if constexpr (DETACH_CAROUSEL) u.detach_carousel = flag(c.detach_carousel[t * c.B + b]);
    if constexpr (RECURRENT && (OUT || !PROJECTED)) u.recurrent = load(c.recurrent + b * c.P + at, n);
    UNROLL
    for (int k = 0; k < STATES; k++) {
      if (UPDATE_MASK[k] == 0 || (PROJECTED && OUT != (k == 0))) continue;
      const real* s = c.update_mask[k] + (t * c.B + b) * (UPDATE_MASK[k] == 1 ? 1 : k ? c.H : c.P);
      u.update_mask[k] = UPDATE_MASK[k] == 1 ? splat(*s) : load(s + at, n);
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
