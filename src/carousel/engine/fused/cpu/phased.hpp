// A step of several phases, over a whole sequence: products and sums over the units, with elementwise arithmetic between.
//
// The batch is split among teams of threads, and each team's part into groups of a few sequences, which go through all
// steps by themselves. A team's members split the tiles of the products, the sequences of the sums, and the units of the
// arithmetic, and meet after each; a team of one never waits. Of each sequence a row of memory holds what passes from
// phase to phase, each vector padded to whole blocks of WIDTH units; padding may hold anything, as long as nothing adds it
// up. The gradients of weights are added up over some steps at a time (a chunk), of which a ring keeps what they are made
// of.
//
// Needs, from the emitted part, the constants above, the tables COPIES, PIECES and OUTERS, and the functions step_forward,
// step_backward and add_outers.

constexpr long GROUP = 64;      // sequences
constexpr long FEW = 16;        // chunks whose products are added up in `real`
constexpr long SEVERAL = 16;    // places, or more in one step, whose gradients of vectors are
constexpr long WORTH = 3 << 18;  // bytes of weights whose reading takes longer than a step's meetings, as measured

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

struct Problem : Arguments {
  explicit Problem(const Arguments& given) : Arguments(given) {
    threads = double(T) * B * WORK < 2e5 ? 1 : min(threads, B * members(threads));
  }
  long members(long all) const {
    return team ? min(team, all) : members_for(all, B, PACKED * sizeof(real), WORTH);
  }
  void pack(real* packed, real* extra, long thread, long all) const {
    for (const Copy& c : COPIES)
      if (thread == 0 && c.n) std::memcpy(extra + c.to, weights[c.parameter] + c.from, c.n * sizeof(real));
    for (const Piece& p : PIECES) {
      const Range some = part(p.rows, thread, all);
      for (long j = some.begin; j < some.end; j++)
        for (long i = 0; i < p.columns; i++)
          packed[p.at(j, i)] = weights[p.parameter][p.offset + j * p.row + i * p.column];
    }
  }
};

struct Deal {  // which of the next n tiles are mine
  const Range mine;
  long at = 0;
  Range operator()(long n) {
    const Range some{min(max(mine.begin - at, 0), n), min(max(mine.end - at, 0), n)};
    at += n;
    return some;
  }
};
struct Groups {  // of a few sequences
  const Range rows;
  long count() const { return (rows.size() + GROUP - 1) / GROUP; }
  long most() const { return (rows.size() + count() - 1) / count(); }
  Range operator[](long k) const {
    const Range some = part(rows.size(), k, count());
    return {rows.begin + some.begin, rows.begin + some.end};
  }
};
// to(row) = from(row) times some tiles, each of F blocks, of a matrix with n columns; there is room for as many or more.
template <int F, class From, class To>
INLINE void product(Range tiles, long rows, const real* weights, long n, long room, long depth, long panels, long step,
                    From from, To to) {
  for_products<F, 1>(tiles, n, {0, rows}, weights, nullptr, depth, panels, step, from,
                     [&](long row, long block, const vec* sum) INLINED { store(to(row) + block * WIDTH, *sum, room - block * WIDTH); });
}
template <int F>
INLINE void add_outer(Range tiles, real* to, const real* a, long K, const real* d, long places) {
  add_products<1, F>(to, a, 0, RING, K, d, RING, WIDTH, {tiles.begin * F, tiles.end * F}, 1, places);
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
static void copy(real* to, const real* from, long n) { std::memcpy(to, from, n * sizeof(real)); }
INLINE void put_one(real* p, ivec v) { std::memcpy(p, &v, sizeof *p); }
// [the steps]
#ifdef BACKWARDS
struct Team {  // what its members share
  const long chunk;
  Buffer<real> memory, carried, ring;
  Buffer<real> products;   // the gradients of matrices of the last few chunks
  Buffer<double> earlier;  // of the chunks before them, in double: there are many
  Buffer<real> recent;     // the gradients of vectors of the last few places
  Buffer<double> d_extra;  // of those before them
  Buffer<doubles> norms;
  Team(const Problem& c, long rows, long most, long members)
      : chunk(max(1, min(c.T, CHUNK / most))),
        memory(most * ROW),
        carried(2 * most * CARRIED),
        ring(chunk * most * RING),
        products(OUTER),
        earlier(rows * c.T > FEW * CHUNK ? OUTER : 0),
        recent(EXTRA),
        d_extra(EXTRA),
        norms(2 * members * most * STATES) {}
  double product(long at) const { return products[at] + (earlier ? earlier[at] : 0.0); }
  void put_away(Range some) {  // so that `products` stays a sum of few terms
    for (long i = some.begin; i < some.end; i++) earlier[i] += products[i], products[i] = 0;
  }
  void add_up(Range some) {
    for (long i = some.begin; i < some.end; i++) d_extra[i] += recent[i], recent[i] = 0;
  }
};

extern "C" int backward(const Arguments& given) try {
  const Problem c(given);
  Buffer<real> packed(PACKED), extra(EXTRA);
  Barrier everyone;
  Buffer<Barrier> meeting(c.threads);
  Slots<Team> teams(c.threads);

  in_parallel(c.threads, c.openmp, [&](int thread, int all) {
    const Place me(thread, all, c.members(all), c.B, meeting);
    const Groups groups{me.rows};
    if (me.member == 0 && groups.count())
      teams[me.team] = new Team(c, me.rows.size(), groups.most(), me.members);
    c.pack(packed, extra, thread, all);
    everyone.wait(all);
    for (long g = 0; g < groups.count(); g++) {
      Team& team = *teams[me.team];
      const long n = groups[g].size(), b0 = groups[g].begin, chunk = team.chunk;
      Buffer<Row> at(n);
      long since = 0, few = 0;  // places whose products have not been put away, whose vectors have not been added up
      auto carried = [&](long back, long row) { return team.carried + (back % 2 * n + row) * CARRIED; };
      auto arrive = [&](long back) {  // the gradient of the output
        const Range some = me.units(SIZE[0]);
        const long end = min(some.end, SIZE[0]);
        for (long row = 0; row < n && c.d_out; row++) {
          const real* const from = c.d_out + ((c.T - 1 - back) * c.B + b0 + row) * SIZE[0];
          real* const to = carried(back, row) + STATE_AT[0];
          for (long i = some.begin; i < end; i++) to[i] += from[i];
        }
      };
      me.meet();  // until all have done with the sequences before
      for (long row = me.share(n).begin; row < me.share(n).end; row++)
        for (int k = 0; k < STATES; k++) {
          real* const to = carried(0, row) + STATE_AT[k];
          if (c.d_last[k])
            copy(to, c.d_last[k] + (b0 + row) * SIZE[k], SIZE[k]);
          else
            std::memset(to, 0, SIZE[k] * sizeof(real));
        }
      me.meet();
      arrive(0);
      me.meet();
      for (long back = 0; back < c.T; back++) {
        const long t = c.T - 1 - back, slot = back % chunk;
        doubles* const all_norms = team.norms + back % 2 * me.members * n * STATES;
        doubles* const norm = all_norms + me.member * n * STATES;
        for (long row = 0; row < n; row++) {
          const long b = b0 + row, tb = t * c.B + b;
          at[row] = {c.x + tb * INPUTS,
                     t ? c.out + (tb - c.B) * SIZE[0] : c.state[0] + b * SIZE[0],
                     carried(back, row),
                     team.memory + row * ROW,
                     nullptr,
                     const_cast<real*>(c.saved) + tb * SAVED,
                     team.ring + (slot * n + row) * RING,
                     carried(back + 1, row),
                     c.d_x ? c.d_x + tb * INPUTS : nullptr,
                     b,
                     tb};
        }
        if (c.norms) std::memset((void*)norm, 0, n * STATES * sizeof(doubles));
        step_backward(c, me, at, n, packed, extra, team.recent, c.norms ? norm : nullptr);
        if (t > 0) arrive(back + 1);
        me.meet();
        few += n;
        if (EXTRA && (few >= SEVERAL || t == 0)) {
          team.add_up(me.share(EXTRA));
          few = 0;
          me.meet();
        }
        if (c.norms && me.member == 0)
          for (long i = 0; i < me.members * n * STATES; i++)
            for (int v = 0; v < WIDTH / 2; v++)
              c.norms[(t * c.B + b0) * STATES + i % (n * STATES)] += all_norms[i][v];
        if (slot < chunk - 1 && t > 0) continue;
        add_outers(me, team.products, team.ring, (slot + 1) * n);
        since += (slot + 1) * n;
        me.meet();  // until all have read what the next steps will write over
        if (team.earlier && since >= FEW * CHUNK) {
          team.put_away(me.share(OUTER));
          me.meet();
          since = 0;
        }
      }
      for (long row = me.share(n).begin; row < me.share(n).end; row++)
        for (int k = 0; k < STATES; k++)
          if (c.d_state[k]) copy(c.d_state[k] + (b0 + row) * SIZE[k], carried(c.T, row) + STATE_AT[k], SIZE[k]);
    }
    everyone.wait(all);
    // Add up the teams' parts. What several matrices share is added to one by one.
    auto total = [&](auto of) {
      double sum = 0;
      for (Team* team : teams)
        if (team) sum += of(*team);
      return sum;
    };
    for (const Piece& p : OUTERS) {
      real* const to = c.d_weights[p.parameter];
      const Range some = SHARED ? Range{0, thread ? 0 : p.rows} : part(p.rows, thread, all);
      for (long j = some.begin; j < some.end && to; j++)
        for (long i = 0; i < p.columns; i++)
          to[p.offset + j * p.row + i * p.column] += total([&](Team& t) { return t.product(p.at(j, i)); });
    }
    if (SHARED) everyone.wait(all);
    for (const Copy& p : COPIES)
      for (long i = 0; thread == 0 && c.d_weights[p.parameter] && i < p.n; i++)
        c.d_weights[p.parameter][p.from + i] += total([&](Team& t) { return t.d_extra[p.to + i]; });
  });
  return 0;
} catch (const std::bad_alloc&) { return 1; }
#else
struct Team {  // what its members share
  Buffer<real> memory, states;
  explicit Team(long most) : memory(most * ROW), states(2 * most * CARRIED) {}
};

extern "C" int forward(const Arguments& given) try {
  const Problem c(given);
  Buffer<real> packed(PACKED), extra(EXTRA);
  Buffer<real>::advise(c.out, c.T * c.B * SIZE[0] * sizeof(real));
  if (c.saved) Buffer<real>::advise(c.saved, c.T * c.B * SAVED * sizeof(real));
  Barrier everyone;
  Buffer<Barrier> meeting(c.threads);
  Slots<Team> teams(c.threads);
  in_parallel(c.threads, c.openmp, [&](int thread, int all) {
    const Place me(thread, all, c.members(all), c.B, meeting);
    const Groups groups{me.rows};
    if (me.member == 0 && groups.count()) teams[me.team] = new Team(groups.most());
    c.pack(packed, extra, thread, all);
    everyone.wait(all);
    for (long g = 0; g < groups.count(); g++) {
      Team& team = *teams[me.team];
      const long n = groups[g].size(), b0 = groups[g].begin;
      Buffer<Row> at(n);
      auto states = [&](long t, long row) { return team.states + (t % 2 * n + row) * CARRIED; };
      me.meet();  // until all have done with the sequences before
      for (long row = me.share(n).begin; row < me.share(n).end; row++)
        for (int k = 0; k < STATES; k++)
          copy(states(0, row) + STATE_AT[k], c.state[k] + (b0 + row) * SIZE[k], SIZE[k]);
      me.meet();
      for (long t = 0; t < c.T; t++) {
        for (long row = 0; row < n; row++) {
          const long b = b0 + row, tb = t * c.B + b;
          at[row] = {c.x + tb * INPUTS,
                     states(t, row),
                     nullptr,
                     team.memory + row * ROW,
                     states(t + 1, row),
                     c.saved ? c.saved + tb * SAVED : nullptr,
                     nullptr,
                     nullptr,
                     nullptr,
                     b,
                     tb};
        }
        step_forward(c, me, at, n, packed, extra);
        me.meet();
      }
      for (long row = me.share(n).begin; row < me.share(n).end; row++)
        for (int k = 0; k < STATES; k++)
          copy(c.last[k] + (b0 + row) * SIZE[k], states(c.T, row) + STATE_AT[k], SIZE[k]);
    }
  });
  return 0;
} catch (const std::bad_alloc&) { return 1; }
#endif
