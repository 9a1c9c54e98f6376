// What every kernel is made of: memory, threads, and products of some sequences with packed weights.
// Needs REGISTERS and CHUNK.

constexpr int TALLEST = 6;
constexpr int rows_of_tile(int columns, int most = TALLEST) {  // so that sums, a row of weights and a broadcast fit
  const int rows = (REGISTERS - 1 - columns) / (columns > 0 ? columns : 1);  // the registers
  return rows < 1 ? 1 : rows > most ? most : rows;
}
constexpr long PAGE = 1 << 21;

template <class T>
struct Buffer {  // aligned, zeroed
  T* data = nullptr;
  explicit Buffer(size_t n) {
    if (n == 0) return;
    const size_t bytes = (n * sizeof(T) + 127) / 128 * 128;
    if (posix_memalign((void**)&data, bytes >= PAGE ? PAGE : 128, bytes)) throw std::bad_alloc();
    advise(data, bytes);
    std::memset((void*)data, 0, bytes);
  }
  ~Buffer() { std::free(data); }
  Buffer(const Buffer&) = delete;
  operator T*() const { return data; }

  static void advise(void* at, size_t bytes) {
#ifdef MADV_HUGEPAGE  // fresh memory costs as much as the arithmetic when it comes in pages of 4 KiB
    const uintptr_t begin = ((uintptr_t)at + PAGE - 1) / PAGE * PAGE, end = ((uintptr_t)at + bytes) / PAGE * PAGE;
    if (end > begin) madvise((void*)begin, end - begin, MADV_HUGEPAGE);
#endif
  }
};

template <class T>
struct Slots {  // for one each of some, which are made later, each by the thread that works with it
  const long n;
  Buffer<T*> made;
  explicit Slots(long n) : n(n), made(n) {}
  ~Slots() {
    for (T* each : *this) delete each;
  }
  T*& operator[](long k) { return made[k]; }
  T** begin() { return made; }
  T** end() { return made + n; }
};

// Who waits looks again and again for a few microseconds, which is how long it takes where every thread has a core of its
// own; then it sleeps, for the one it waits for may need this very core.
class Barrier {
  std::atomic<int> waiting{0}, round{0}, asleep{0};
  static constexpr int SPINS = 1000;

  void sleep_while(int now) {
#ifdef __linux__
    asleep.fetch_add(1);
    while (round.load() == now) syscall(SYS_futex, &round, FUTEX_WAIT_PRIVATE, now, nullptr, nullptr, 0);
    asleep.fetch_sub(1);
#else
    while (round.load(std::memory_order_acquire) == now) sched_yield();
#endif
  }

 public:
  void wait(int members) {
    if (members == 1) return;
    const int now = round.load(std::memory_order_acquire);
    if (waiting.fetch_add(1, std::memory_order_acq_rel) == members - 1) {
      waiting.store(0, std::memory_order_relaxed);
      round.store(now + 1);
#ifdef __linux__
      if (asleep.load()) syscall(SYS_futex, &round, FUTEX_WAKE_PRIVATE, members, nullptr, nullptr, 0);
#endif
      return;
    }
    for (int spins = 0; spins < SPINS; spins++) {
      if (round.load(std::memory_order_acquire) != now) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    sleep_while(now);
  }
};

// The OpenMP that torch has brought along, if it is GNU's: its threads are awake, and two runtimes would fight.
#ifdef __linux__
extern "C" {
__attribute__((weak)) void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned);
__attribute__((weak)) int omp_get_thread_num();
__attribute__((weak)) int omp_get_num_threads();
}
#endif

template <class F>
void in_parallel(int threads, bool openmp, F&& body) {  // body(thread, threads)
  std::fenv_t callers;  // tells whether denormals are flushed, which each thread has to be told
  std::fegetenv(&callers);
  auto run = [&](int thread, int all) {
    std::fenv_t environment;
    std::fegetenv(&environment);
    std::fesetenv(&callers);
    body(thread, all);
    std::fesetenv(&environment);
  };
  using Run [[maybe_unused]] = decltype(run);
  if (threads == 1) return body(0, 1);
#ifdef __linux__
  if (openmp && GOMP_parallel && omp_get_thread_num && omp_get_num_threads)
    return GOMP_parallel([](void* r) { (*(Run*)r)(omp_get_thread_num(), omp_get_num_threads()); }, &run, threads, 0);
#endif
  struct Other {
    Run* run;
    int thread, all;
    pthread_t id;
  };
  Buffer<Other> others(threads);
  for (int thread = 1; thread < threads; thread++) {
    Other& other = others[thread] = {&run, thread, threads};
    auto start = [](void* at) -> void* {
      const Other& other = *(Other*)at;
      return (*other.run)(other.thread, other.all), nullptr;
    };
    if (pthread_create(&other.id, nullptr, start, &other)) abort();  // those before it wait for it
  }
  body(0, threads);
  for (int thread = 1; thread < threads; thread++) pthread_join(others[thread].id, nullptr);
}

struct Range {
  long begin, end;
  long size() const { return end - begin; }
};
INLINE Range part(long n, long k, long parts) { return {n * k / parts, n * (k + 1) / parts}; }

// Tiles of nearly equal height, none above what the registers hold of sums with C columns.
template <int C>
struct Tiles {
  static constexpr int MOST = rows_of_tile(C);
  long rows, count = (rows + MOST - 1) / MOST;
  Range operator[](long k) const { return part(rows, k, count); }
};

// to[r][c] = bias[c] + sum over p and k of a[r][p * a_step + k] * weights[p][k][c], for k < n and p < panels; no bias is
// zero. C of ALL columns. CHUNK terms are added up by themselves, since a long sum loses digits. The first turns on the
// same weights fetch those of the next tile, which lie behind them.
template <int R, int C, int ALL>
__attribute__((noinline)) void multiply_rows(vec* to, const real* const* from, const real* weights, const real* bias,
                                             long n, long panels, long a_step, long turn) {
  const real* ahead = weights + (ALL + min(turn, ALL - 1)) * n * panels * WIDTH;
  vec sums[R][C];
  const real* a[R];
  UNROLL
  for (int r = 0; r < R; r++) {
    a[r] = from[r];
    UNROLL
    for (int c = 0; c < C; c++) sums[r][c] = bias ? load(bias + c * WIDTH) : vec{};
  }
  bool more = false;  // whether `to` holds a sum already
  auto put = [&]() INLINED {
    UNROLL
    for (int r = 0; r < R; r++) UNROLL
    for (int c = 0; c < C; c++) to[r * ALL + c] = more ? to[r * ALL + c] + sums[r][c] : sums[r][c];
  };
  long room = CHUNK;
  for (long p = 0; p < panels; p++) {
    for (long k = 0; k < n;) {
      if (room == 0) {
        put();
        more = true, room = CHUNK;
        UNROLL
        for (int r = 0; r < R; r++) UNROLL
        for (int c = 0; c < C; c++) sums[r][c] = vec{};
      }
      const long end = min(n, k + room);
      room -= end - k;
      for (; k < end; k++, weights += ALL * WIDTH) {
        vec w[C];
        UNROLL
        for (int c = 0; c < C; c++) w[c] = load(weights + c * WIDTH);
        __builtin_prefetch(ahead += WIDTH, 0, 2);
        UNROLL
        for (int r = 0; r < R; r++) {
          const vec x = splat(a[r][k]);
          UNROLL
          for (int c = 0; c < C; c++) sums[r][c] += x * w[c];
        }
      }
    }
    UNROLL
    for (int r = 0; r < R; r++) a[r] += a_step;
  }
  put();
}

template <int C, int ALL, int R, int LEAST = 1, class... A>
INLINE void multiply(int height, A... arguments) {
  if constexpr (C > 0 && R >= LEAST) {
    if (height == R)
      multiply_rows<R, C, ALL>(arguments...);
    else
      multiply<C, ALL, R - 1, LEAST>(height, arguments...);
  }
}

// finish(row, block, sums) for each row and block below `units` of some tiles of F blocks, with the block's G sums: the
// bias, and the row at from(row) times the packed weights as in multiply_rows. Without a product n or panels is 0. Rows
// that are few too many for one tile, of which two would be low, are taken at once, with part of the columns at a time.
template <int F, int G, class From, class Finish>
INLINE void for_products(Range tiles, long units, Range rows, const real* weights, const real* bias, long n,
                         long panels, long a_step, From from, Finish finish) {
  constexpr int C = F * G, PART = C % 2 ? C : C / 2, HIGH = rows_of_tile(C), HIGHER = rows_of_tile(PART, 8);
  const bool once = rows.size() > HIGH && rows.size() <= HIGHER;
  const Tiles<C> heights{rows.size()};
  for (long j = tiles.begin; j < tiles.end; j++)
    for (long k = 0; k < (once ? 1 : heights.count); k++) {
      const Range tile = once ? rows : Range{rows.begin + heights[k].begin, rows.begin + heights[k].end};
      const real *a[8], *w = weights + j * n * panels * C * WIDTH, *first = bias ? bias + j * C * WIDTH : nullptr;
      vec sums[8 * C + 1];
      for (long row = tile.begin; row < tile.end; row++) a[row - tile.begin] = from(row);
      if (once)
        for (int c = 0, turn = 0; c < C; c += PART, turn++)
          multiply<PART, C, HIGHER, HIGH + 1>(tile.size(), sums + c, a, w + c * WIDTH,
                                              first ? first + c * WIDTH : nullptr, n, panels, a_step, turn);
      else
        multiply<C, C, HIGH>(tile.size(), sums, a, w, first, n, panels, a_step, k);
      for (long row = tile.begin; row < tile.end; row++)
        for (long f = 0; f < F && (j * F + f) * WIDTH < units; f++)
          finish(row, j * F + f, sums + (row - tile.begin) * C + f * G);
    }
}

// How many of `all` threads make a team. Alone, a thread reads all bytes of the weights in every step; in a team a share
// of them, but the team has to wait for its slowest member. With few sequences per thread, or weights beyond the cache,
// that is the better way, if a member reads half of `least` or more.
inline long members_for(long all, long B, long weights, long least) {
  long cache = 1 << 20, m = 1;
#ifdef _SC_LEVEL2_CACHE_SIZE
  cache = max(cache, sysconf(_SC_LEVEL2_CACHE_SIZE) / 4 * 3);
#endif
  while (m * 2 <= all && all % (m * 2) == 0 && weights >= m * least && (B * m < 4 * all || weights > m * cache)) m *= 2;
  return m;
}

struct Place {  // of a thread among the others
  long thread, all, member, members, team, teams;
  Range rows;  // the team's, of B
  Barrier& meeting;
  Place(int thread, int all, long members, long B, Barrier* meetings)
      : thread(thread),
        all(all),
        member(thread % members),
        members(members),
        team(thread / members),
        teams(all / members),
        rows(team < teams ? part(B, team, teams) : Range{0, 0}),
        meeting(meetings[team]) {}
  Range share(long n) const { return part(n, member, members); }  // of a team's work
  Range units(long n) const {                                     // of n of them, in whole blocks
    const Range blocks = share((n + WIDTH - 1) / WIDTH);
    return {blocks.begin * WIDTH, blocks.end * WIDTH};
  }
  Range job(long n) const { return part(n, thread, all); }  // of what all do together
  void meet() const { meeting.wait(members); }
};
