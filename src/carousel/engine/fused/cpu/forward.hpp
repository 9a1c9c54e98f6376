// A sequence forwards.

extern "C" int forward(const Arguments& given) try {
  const Problem problem(given);
  const Problem& c = problem;
  const long T = c.T, B = c.B, H = c.H, P = c.P, width = c.blocks() * WIDTH, out_width = c.out_blocks() * WIDTH;
  const long tiles = c.blocks() / FORWARD, out_tiles = c.out_blocks() / BACKWARD;
  const long inputs = c.x ? c.I : 0;
  constexpr long WX = FORWARD * GX * WIDTH, UH = FORWARD * GU * WIDTH;
  Buffer<real> w_x(tiles * inputs * WX), w_h(GU ? tiles * P * UH : 0), b_x(tiles * WX), b_h(tiles * UH);
  Buffer<real> w_r(PROJECTED ? out_tiles * BACKWARD * WIDTH * H : 0), full(PROJECTED ? B * width : 0);
  Buffer<real> h(2 * B * out_width), hidden_inputs(HIDDEN_INPUT ? 2 * B * out_width : 0);
  Buffer<real> rest((STATES - 1) * B * width), extra(EXTRA * width);
  real* const shown = HIDDEN_INPUT ? hidden_inputs : h;  // to the hidden map
  Buffer<real>::advise(c.out, T * B * P * sizeof(real));
  if (c.saved) Buffer<real>::advise(c.saved, T * B * width * SAVED * sizeof(real));
  Barrier everyone;
  Buffer<Barrier> meeting(c.threads);

  auto look = [&](long t, long b, long block, vec value) INLINED {  // what the hidden map will see of h in step t
    if constexpr (HIDDEN_INPUT) {
      if (t >= T) return;
      Unit u{};
      c.masks<true>(c, u, t, b, block);
      u.state[0] = value;
      store(hidden_inputs + (t % 2 * B + b) * out_width + block * WIDTH, first(hidden_input(u), c.out_valid(block)));
    }
  };

  in_parallel(c.threads, c.openmp, [&](int thread, int all) {
    const Problem c = problem;
    const Place me(thread, all, c.members(all), c.B, meeting);
    const Range packed = me.job(tiles);
    if (c.x) pack(w_x, c.w_x, H, c.I, GX, FORWARD, packed);
    if (c.x && c.b_x) pack(b_x, c.b_x, H, 1, GX, FORWARD, packed);
    if (GU) pack(w_h, c.w_h, H, P, GU, FORWARD, packed);
    if (GU && c.b_h) pack(b_h, c.b_h, H, 1, GU, FORWARD, packed);
    if (PROJECTED) pack(w_r, c.w_r, P, H, 1, BACKWARD, me.job(out_tiles));
    pack(extra, c.extra, H, 1, EXTRA, 1, me.job(c.blocks()));
    for (long b = me.job(B).begin; b < me.job(B).end; b++) {
      std::memcpy(h + b * out_width, c.state[0] + b * P, P * sizeof(real));
      for (long f = 0; f * WIDTH < P; f++) look(0, b, f, load(h + b * out_width + f * WIDTH));
      for (int k = 1; k < STATES; k++)
        std::memcpy(rest + ((k - 1) * B + b) * width, c.state[k] + b * H, H * sizeof(real));
    }
    everyone.wait(all);
    const Range mine = me.share(tiles), out_mine = me.share(out_tiles);
    const long rows = me.rows.size(), b0 = me.rows.begin;
    if (!rows) return;
    const long chunk = min(T, max(1, CHUNK / rows)), places = chunk * rows;
    Buffer<real> buffer(mine.size() * places * WX);
    auto wx = [&](long place, long block)
                  INLINED { return buffer + ((block - mine.begin * FORWARD) * places + place) * GX * WIDTH; };
    for (long t = 0; t < T; t++) {
      if (t % chunk == 0)  // W x for the steps to come
        for_products<FORWARD, GX>(
            mine, H, {0, min(chunk, T - t) * rows}, w_x, b_x, inputs, 1, 0,
            [&](long i) INLINED { return c.x ? c.x + (t + i / rows) * c.x_t + (b0 + i % rows) * c.x_b : nullptr; },
            [&](long i, long block, const vec* sums) INLINED {
              const long at = ((t + i / rows) * B + b0 + i % rows) * GX * H + block * WIDTH;
              for (int g = 0; g < GX; g++)
                store(wx(i, block) + g * WIDTH, c.wx ? load(c.wx + at + g * H, c.valid(block)) : sums[g]);
            });
      const real *before = h + t % 2 * B * out_width, *input = shown + t % 2 * B * out_width;
      real* const after = h + (t + 1) % 2 * B * out_width;
      auto emit = [&](long b, long block, vec value) INLINED {
        store(after + b * out_width + block * WIDTH, first(value, c.out_valid(block)));
        store(c.out + (t * B + b) * P + block * WIDTH, value, c.out_valid(block));
        look(t + 1, b, block, value);
      };
      for_products<FORWARD, GU>(
          mine, H, {0, rows}, w_h, b_h, P, 1, 0, [&](long row) INLINED { return input + (b0 + row) * out_width; },
          [&](long row, long block, const vec* uh) INLINED {
            const long b = b0 + row, unit = block * WIDTH;
            const real* const from = wx(t % chunk * rows + row, block);
            Unit u{};
            vec next[STATES], kept[SAVED + 1];
            UNROLL
            for (int g = 0; g < GX; g++) u.wx[g] = load(from + g * WIDTH);
            UNROLL
            for (int g = 0; g < GU; g++) u.uh[g] = uh[g];
            if (!PROJECTED) u.state[0] = load(before + b * out_width + unit);
            UNROLL
            for (int k = 1; k < STATES; k++) u.state[k] = load(rest + ((k - 1) * B + b) * width + unit);
            UNROLL
            for (int k = 0; k < EXTRA; k++) u.extra[k] = load(extra + (block * EXTRA + k) * WIDTH);
            c.masks<false>(c, u, t, b, block);
            update(u, next, kept);
            UNROLL
            for (int k = 1; k < STATES; k++) store(rest + ((k - 1) * B + b) * width + unit, next[k]);
            if (PROJECTED)
              store(full + b * width + unit, next[0]);
            else
              emit(b, block, next[0]);
            if (c.saved) {
              real* const to = c.saved + ((t * B + b) * width + unit) * SAVED;
              UNROLL
              for (int k = 0; k < SAVED; k++) store(to + k * WIDTH, kept[k]);
            }
          });
      if constexpr (PROJECTED) {
        me.meet();
        for_products<BACKWARD, 1>(
            out_mine, P, {0, rows}, w_r, nullptr, H, 1, 0, [&](long row) INLINED { return full + (b0 + row) * width; },
            [&](long row, long block, const vec* out) INLINED {
              const long b = b0 + row;
              Unit u{};
              u.out = *out;
              u.state[0] = load(before + b * out_width + block * WIDTH);
              c.masks<true>(c, u, t, b, block);
              emit(b, block, projected(u));
            });
      }
      if (GU || PROJECTED) me.meet();
    }
    me.meet();
    for (long b = b0 + me.share(rows).begin; b < b0 + me.share(rows).end; b++) {
      std::memcpy(c.last[0] + b * P, h + (T % 2 * B + b) * out_width, P * sizeof(real));
      for (int k = 1; k < STATES; k++) std::memcpy(c.last[k] + b * H, rest + ((k - 1) * B + b) * width, H * sizeof(real));
    }
  });
  return 0;
} catch (const std::bad_alloc&) { return 1; }
