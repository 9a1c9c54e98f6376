// A sequence backwards: the adjoint of every step, and the gradients of the weights.

constexpr long FEW = 16;               // chunks whose products are added up in `real`
constexpr long X_COUNT = D - X_FIRST;  // gradients that are W x's

struct Team {  // what its members share in a backward pass
  const long rows, places, of_w_h, of_w_x, of_w_r;  // how many numbers
  Buffer<real> gradients, hidden_inputs, full, d_out, carried, carried_out;
  Buffer<real> products;   // the gradients of w_h, w_x and w_r of the last few chunks
  Buffer<double> earlier;  // of the chunks before them, in double: there are many
  Buffer<double> sums, d_extra;
  Buffer<doubles> norms;
  Team(const Problem& c, long rows, long chunk, long members, bool weights)
      : rows(rows),
        places(rows * chunk),
        of_w_h(weights ? c.blocks() * c.P * U_COUNT * WIDTH : 0),
        of_w_x(weights && c.x ? c.blocks() * c.I * X_COUNT * WIDTH : 0),
        of_w_r(weights && PROJECTED ? c.out_blocks() * c.H * WIDTH : 0),
        gradients(c.blocks() * places * D * WIDTH),
        hidden_inputs(places * stride(c.out_blocks())),
        full(PROJECTED ? places * stride(c.blocks()) : 0),
        d_out(PROJECTED ? places * c.out_blocks() * WIDTH : 0),
        carried(STATES * rows * c.blocks() * WIDTH),
        carried_out(rows * c.out_blocks() * WIDTH),
        products(of_w_h + of_w_x + of_w_r),
        earlier(rows * c.T > FEW * CHUNK ? of_w_h + of_w_x + of_w_r : 0),
        sums(c.blocks() * D * WIDTH),
        d_extra((EXTRA + 1) * c.blocks() * WIDTH),
        norms(2 * members * rows * STATES) {}
  real *w_h() const { return products; }
  real *w_x() const { return products + of_w_h; }
  real *w_r() const { return products + of_w_h + of_w_x; }
  double product(const real* at) const { return *at + (earlier ? earlier[at - products] : 0.0); }
  void put_away(Range some) {  // so that `products` stays a sum of few terms
    for (long i = some.begin; i < some.end; i++) earlier[i] += products[i], products[i] = 0;
  }
  static long stride(long blocks) { return blocks * WIDTH + 16; }  // not a power of two: lines would share cache sets
};

extern "C" int backward(const Arguments& given) try {
  const Problem problem(given);
  const Problem& c = problem;
  const long T = c.T, B = c.B, H = c.H, P = c.P, I = c.I, blocks = c.blocks(), out_blocks = c.out_blocks();
  const long width = blocks * WIDTH, out_width = out_blocks * WIDTH;
  const long columns = (PROJECTED ? out_blocks : blocks) / BACKWARD,
             x_columns = (I + BACKWARD * WIDTH - 1) / (BACKWARD * WIDTH);
  constexpr long TILE = BACKWARD * WIDTH;
  const bool weights = c.d_w_x || c.d_w_h || c.d_w_r, first_state = c.d_state[0];
  Buffer<real> w_h(GU ? columns * blocks * U_COUNT * WIDTH * TILE : 0),
      w_x(c.d_x ? x_columns * blocks * X_COUNT * WIDTH * TILE : 0);
  Buffer<real> w_r(PROJECTED ? blocks / BACKWARD * out_blocks * WIDTH * TILE : 0), extra(EXTRA * width);
  Barrier everyone;
  Buffer<Barrier> meeting(c.threads);
  Slots<Team> teams(c.threads);

  in_parallel(c.threads, c.openmp, [&](int thread, int all) {
    const Problem c = problem;
    const Place me(thread, all, c.members(all), c.B, meeting);
    const long rows = me.rows.size(), b0 = me.rows.begin;
    const long chunk = max(2, min(T, CHUNK / max(1, rows)));
    if (me.member == 0 && me.team < me.teams)
      teams[me.team] = new Team(c, rows, chunk, me.members, weights);
    if (GU)
      pack_transposed(w_h, c.w_h, H, P, blocks, GU, U_COUNT, BACKWARD, me.job(columns),
                      [](int g) { return U_AT[g]; });
    if (c.d_x)
      pack_transposed(w_x, c.w_x, H, I, blocks, GX, X_COUNT, BACKWARD, me.job(x_columns),
                      [](int g) { return X_AT[g] - X_FIRST; });
    if (PROJECTED)
      pack_transposed(w_r, c.w_r, P, H, out_blocks, 1, 1, BACKWARD, me.job(blocks / BACKWARD), [](int) { return 0; });
    pack(extra, c.extra, H, 1, EXTRA, 1, me.job(blocks));
    everyone.wait(all);
    if (rows) {
      Team& team = *teams[me.team];
      const Range mine = me.share(blocks / BACKWARD), out_mine = me.share(columns);
      const Range my_blocks{mine.begin * BACKWARD, mine.end * BACKWARD},
          my_out_blocks{out_mine.begin * BACKWARD, out_mine.end * BACKWARD};
      real* const ring = team.gradients;
      const long places = team.places, input_step = Team::stride(out_blocks), full_step = Team::stride(blocks),
                 panel = places * D * WIDTH;
      auto carried = [&](int k, long row) INLINED { return team.carried + (k * rows + row) * width; };
      auto carried_out = [&](long row)
                             INLINED { return PROJECTED ? team.carried_out + row * out_width : carried(0, row); };
      for (long row = me.share(rows).begin; row < me.share(rows).end; row++)
        for (int k = 0; k < STATES; k++)
          if (c.d_last[k]) {
            const long n = k ? H : P;
            std::memcpy(k ? carried(k, row) : carried_out(row), c.d_last[k] + (b0 + row) * n, n * sizeof(real));
          }
      me.meet();

      long since = 0;  // places whose products have not been put away
      for (long back = 0; back <= T; back++) {  // the last round is for the first state alone
        const long t = T - 1 - back, slot = back % chunk, place = slot * rows,
                   previous = (back + chunk - 1) % chunk * rows;
        const bool arrived = t < 0;
        if (arrived && !first_state) break;
        doubles* const norm = team.norms + (back % 2 * me.members + me.member) * rows * STATES;
        if (c.norms) std::memset((void*)norm, 0, rows * STATES * sizeof(doubles));

        // The gradient of the output of step t: carried, from the loss, and through the hidden map of step t + 1.
        auto gather = [&](vec through, long row, long block) INLINED {
          const long b = b0 + row, n = c.out_valid(block), at = block * WIDTH;
          vec d = load(carried_out(row) + at);
          if (!arrived && c.d_out) d += load(c.d_out + (t * B + b) * P + at, n);
          if (GU && back > 0) {
            Unit u{};
            if (HIDDEN_INPUT || DETACH_GATES) c.masks<true>(c, u, t + 1, b, block);
            u.d_hidden_input = through;
            d += d_hidden_input(u);
          }
          return d;
        };
        auto state_before = [&](long row, long block) INLINED {
          const real* h = t > 0 ? c.out + ((t - 1) * B + b0 + row) * P : c.state[0] + (b0 + row) * P;
          return load(h + block * WIDTH, c.out_valid(block));
        };
        // What the hidden map saw, for its weights' gradient.
        auto remember = [&](Unit& u, long row, long block) INLINED {
          if (GU && c.d_w_h)
            store(team.hidden_inputs + (place + row) * input_step + block * WIDTH,
                  first(hidden_input(u), c.out_valid(block)));
        };
        auto adjoin = [&](vec d, long row, long block) INLINED {  // a step of one unit
          const long b = b0 + row, unit = block * WIDTH, n = c.valid(block);
          Unit u{};
          vec kept[SAVED + 1], before[STATES], d_made[STATES], gradients[D + 1], d_extra[EXTRA + 1];
          u.d_new[0] = d;
          UNROLL
          for (int k = 1; k < STATES; k++) u.d_new[k] = load(carried(k, row) + unit);
          c.masks<false>(c, u, t, b, block);
          UNROLL
          for (int k = 0; k < EXTRA; k++) u.extra[k] = load(extra + (block * EXTRA + k) * WIDTH);
          if (!PROJECTED) u.state[0] = state_before(row, block);
          const real* from = c.saved + ((t * B + b) * width + unit) * SAVED;
          UNROLL
          for (int k = 0; k < SAVED; k++) kept[k] = load(from + k * WIDTH);
          vec made;
          adjoint(u, kept, made, gradients, before, d_made, d_extra);
          for (int k = PROJECTED; k < STATES && c.norms; k++) norm[row * STATES + k] += squares(first(d_made[k], n));
          if (n < WIDTH) {  // padding is to stay zero, whatever the cell makes of zeros
            UNROLL
            for (int k = 0; k < D; k++) gradients[k] = first(gradients[k], n);
            UNROLL
            for (int k = 0; k < STATES; k++) before[k] = first(before[k], n);
            made = first(made, n);
          }
          real* const to = ring + block * panel + (place + row) * D * WIDTH;
          UNROLL
          for (int k = 0; k < D; k++) store(to + k * WIDTH, gradients[k]);
          UNROLL
          for (int k = PROJECTED; k < STATES; k++) store(carried(k, row) + unit, before[k]);
          for (int k = 0; k < EXTRA && c.d_extra; k++) add(team.d_extra + k * width + unit, d_extra[k]);
          for (int g = 0; g < GX && c.d_wx; g++) store(c.d_wx + ((t * B + b) * GX + g) * H + unit, gradients[X_AT[g]], n);
          if (PROJECTED)
            store(team.full + (place + row) * full_step + unit, made);
          else
            remember(u, row, block);
        };

        for_products<BACKWARD, 1>(
            out_mine, P, {0, rows}, w_h, nullptr, U_COUNT * WIDTH, back > 0 ? blocks : 0, panel,
            [&](long row) INLINED { return ring + (previous + row) * D * WIDTH; },
            [&](long row, long block, const vec* through) INLINED {
              const vec d = gather(*through, row, block);
              if (arrived) {
                store(carried_out(row) + block * WIDTH, d);
              } else if constexpr (PROJECTED) {
                Unit u{};
                c.masks<true>(c, u, t, b0 + row, block);
                u.d_out = d;
                u.state[0] = state_before(row, block);
                vec to_product, held;
                d_projected(u, to_product, held);
                if (c.norms) norm[row * STATES] += squares(first(to_product, c.out_valid(block)));
                store(team.d_out + (block * places + place + row) * WIDTH, first(to_product, c.out_valid(block)));
                store(carried_out(row) + block * WIDTH, first(held, c.out_valid(block)));
                remember(u, row, block);
              } else {
                adjoin(d, row, block);
              }
            });
        if (arrived) break;
        if constexpr (PROJECTED) {
          me.meet();
          for_products<BACKWARD, 1>(
              mine, H, {0, rows}, w_r, nullptr, WIDTH, out_blocks, places * WIDTH,
              [&](long row) INLINED { return team.d_out + (place + row) * WIDTH; },
              [&](long row, long block, const vec* d) INLINED { adjoin(*d, row, block); });
        }
        const bool last = slot == chunk - 1 || t == 0;  // of its chunk
        if (GU || PROJECTED || c.norms || last) me.meet();
        if (c.norms && me.member == 0)
          for (long i = 0; i < rows * STATES; i++)
            for (long m = 0; m < me.members; m++)
              for (int v = 0; v < WIDTH / 2; v++)
                c.norms[(t * B + b0) * STATES + i] += team.norms[(back % 2 * me.members + m) * rows * STATES + i][v];

        if (!last) continue;
        const long n = (slot + 1) * rows;
        if constexpr (GU > 0)
          if (c.d_w_h)
            add_products<U_COUNT, FORWARD>(team.w_h(), team.hidden_inputs, rows * input_step, input_step, P, ring,
                                           D * WIDTH, panel, my_blocks, slot + 1, rows);
        if (c.d_w_x)  // the ring has the last step first
          add_products<X_COUNT, FORWARD>(team.w_x(), c.x + (t + slot) * c.x_t + b0 * c.x_b, -c.x_t, c.x_b, I,
                                         ring + X_FIRST * WIDTH, D * WIDTH, panel, my_blocks, slot + 1, rows);
        if (PROJECTED && c.d_w_r)
          add_products<1, BACKWARD>(team.w_r(), team.full, rows * full_step, full_step, H, team.d_out, WIDTH,
                                    places * WIDTH, my_out_blocks, slot + 1, rows);
        if (c.d_b_x || c.d_b_h)
          for (long block = my_blocks.begin; block < my_blocks.end; block++) {
            const real* from = ring + block * panel;
            for (long i = 0; i < n;) {
              vec sums[D + 1] = {};
              for (const long end = min(n, i + 8); i < end; i++, from += D * WIDTH) {
                UNROLL
                for (int k = 0; k < D; k++) sums[k] += load(from + k * WIDTH);
              }
              UNROLL
              for (int k = 0; k < D; k++) add(team.sums + (block * D + k) * WIDTH, sums[k]);
            }
          }
        if (c.d_x)
          for_products<BACKWARD, 1>(
              {0, x_columns}, I, me.share(n), w_x, nullptr, X_COUNT * WIDTH, blocks, panel,
              [&](long i) INLINED { return ring + (i * D + X_FIRST) * WIDTH; },
              [&](long i, long block, const vec* d) INLINED {
                const long step = t + slot - i / rows, b = b0 + i % rows, column = block * WIDTH;
                store(c.d_x + (step * B + b) * I + column, *d, I - column);
              });
        me.meet();  // until all have read what the next steps will write over
        since += n;
        if (team.earlier && since >= FEW * CHUNK) {
          team.put_away(me.share(team.of_w_h + team.of_w_x + team.of_w_r));
          me.meet();
          since = 0;
        }
      }
      me.meet();
      for (long row = me.share(rows).begin; row < me.share(rows).end; row++)
        for (int k = 0; k < STATES; k++)
          if (c.d_state[k]) {
            const long size = k ? H : P;
            std::memcpy(c.d_state[k] + (b0 + row) * size, k ? carried(k, row) : carried_out(row), size * sizeof(real));
          }
    }
    everyone.wait(all);

    // Add up the teams' parts, each thread for some units.
    auto total = [&](auto of) {
      double sum = 0;
      for (Team* team : teams)
        if (team && team->rows) sum += of(*team);
      return sum;
    };
    for (long unit = me.job(H).begin; unit < me.job(H).end; unit++) {
      const long block = unit / WIDTH, v = unit % WIDTH;
      for (int g = 0; g < GU && c.d_w_h; g++)
        for (long k = 0; k < P; k++)
          c.d_w_h[(g * H + unit) * P + k] =
              total([&](Team& t) { return t.product(t.w_h() + ((block * P + k) * U_COUNT + U_AT[g]) * WIDTH + v); });
      for (int g = 0; g < GX && c.d_w_x; g++)
        for (long k = 0; k < I; k++)
          c.d_w_x[(g * H + unit) * I + k] = total([&](Team& t) {
            return t.product(t.w_x() + ((block * I + k) * X_COUNT + X_AT[g] - X_FIRST) * WIDTH + v);
          });
      auto sum = [&](int k) { return total([&](Team& t) { return t.sums[(block * D + k) * WIDTH + v]; }); };
      for (int g = 0; g < GX && c.d_b_x; g++) c.d_b_x[g * H + unit] = sum(X_AT[g]);
      for (int g = 0; g < GU && c.d_b_h; g++) c.d_b_h[g * H + unit] = sum(U_AT[g]);
      for (int k = 0; k < EXTRA && c.d_extra; k++)
        c.d_extra[k * H + unit] = total([&](Team& t) { return t.d_extra[k * width + unit]; });
    }
    for (long unit = me.job(P).begin; unit < me.job(P).end && PROJECTED && c.d_w_r; unit++)
      for (long k = 0; k < H; k++)
        c.d_w_r[unit * H + k] =
            total([&](Team& t) { return t.product(t.w_r() + (unit / WIDTH * H + k) * WIDTH + unit % WIDTH); });
  });
  return 0;
} catch (const std::bad_alloc&) { return 1; }
