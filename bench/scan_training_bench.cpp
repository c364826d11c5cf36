// The scans in training at the shapes of mamba-130m (E 1536, N 16) and mamba2-130m (H 24, P 64, N 128): the forward
// pass alone, the forward pass that keeps what the backward pass needs, and the backward pass, in turn within an
// iteration. Times are the least of all iterations, so that a machine that drifts or is busy does not change their
// ratio much.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <vector>

#include "bench/bench_floats.h"
#include "bench/bench_pool.h"
#include "krait/kernels/scan_selective_backward.h"
#include "krait/kernels/scan_ssd_backward.h"

namespace {

using namespace krait;
using namespace krait::kernels;
using bench::Floats;
using bench::pool;

// The least seconds of a piece of work over all its runs, by the wall clock and by the processor: with one thread the
// latter leaves out what other processes on the machine take.
class LeastTime {
 public:
  template <class Work>
  void measure(Work&& work) {
    const auto start = std::chrono::steady_clock::now();
    const double processor = processor_seconds();
    work();
    processor_ = std::min(processor_, processor_seconds() - processor);
    wall_ = std::min(wall_, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  double wall() const { return wall_; }
  double processor() const { return processor_; }

 private:
  static double processor_seconds() {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }
  double wall_ = 1e9, processor_ = 1e9;
};

// "elements" are rows times channels.
template <class Plain, class Forward, class Backward>
void report_training(benchmark::State& state, double elements, Plain&& plain, Forward&& forward, Backward&& backward) {
  LeastTime of_plain, of_forward, of_backward;
  for (auto _ : state) {
    of_plain.measure(plain);
    of_forward.measure(forward);
    of_backward.measure(backward);
  }
  state.counters["plain ns/element"] = of_plain.wall() / elements * 1e9;
  state.counters["forward ns/element"] = of_forward.wall() / elements * 1e9;
  state.counters["backward ns/element"] = of_backward.wall() / elements * 1e9;
  state.counters["backward/forward"] = of_backward.wall() / of_forward.wall();
  state.counters["forward/plain"] = of_forward.wall() / of_plain.wall();
  state.counters["processor backward/forward"] = of_backward.processor() / of_forward.processor();
  state.counters["processor forward/plain"] = of_forward.processor() / of_plain.processor();
  state.counters["processor_backward_ns"] = of_backward.processor() / elements * 1e9;
}

void SelectiveScanTraining(benchmark::State& state) {
  const std::int64_t rows = state.range(0), sequences = state.range(1), channels = 1536, states = 16;
  const std::int64_t all = rows * sequences;
  Floats x(all, channels), dt(all, channels), z(all, channels), y(all, channels), dy(all, channels);
  Floats b(all, states), c(all, states), a(states, channels, 7.0, -8.0), d(1, channels), bias(1, channels, 1.0, -4.0);
  Floats dx(all, channels), ddt(all, channels), dz(all, channels), db(all, states), dc(all, states);
  Floats da(states, channels), dd(1, channels), dbias(1, channels), h(sequences * states, channels);
  const SelectiveScan scan{
      .channels = channels, .states = states, .groups = 1, .a = a.data(), .d = d.data(), .dt_bias = bias.data()};
  std::vector<SequenceRows> parts;
  for (std::int64_t i = 0; i < sequences; ++i) {
    parts.push_back(
        {.first_row = i * rows, .rows = rows, .state = reinterpret_cast<std::byte*>(h.data() + i * states * channels)});
  }
  Floats borders(selective_chunks(parts) * states, channels);
  report_training(
      state, static_cast<double>(all * channels),
      [&] { selective_scan(pool(), scan, x.rows(), dt.rows(), b.rows(), c.rows(), z.rows(), parts, y.rows()); },
      [&] {
        selective_scan(pool(), scan, x.rows(), dt.rows(), b.rows(), c.rows(), z.rows(), parts, y.rows(),
                       borders.data());
      },
      [&] {
        selective_scan_backward(pool(), scan,
                                {.x = x.rows(), .dt = dt.rows(), .b = b.rows(), .c = c.rows(), .z = z.rows()}, parts,
                                borders.data(), dy.rows(), {},
                                {.x = dx.rows(),
                                 .dt = ddt.rows(),
                                 .b = db.rows(),
                                 .c = dc.rows(),
                                 .z = dz.rows(),
                                 .a = da.data(),
                                 .d = dd.data(),
                                 .dt_bias = dbias.data()});
      });
}
BENCHMARK(SelectiveScanTraining)->ArgNames({"T", "B"})->Args({1024, 2})->UseRealTime();

void SsdScanTraining(benchmark::State& state) {
  const std::int64_t rows = state.range(0), sequences = state.range(1), chunk = state.range(2);
  const std::int64_t heads = 24, width = 64, states = 128, all = rows * sequences, channels = heads * width;
  Floats x(all, channels), dt(all, heads), b(all, states), c(all, states), y(all, channels), dy(all, channels);
  Floats a(1, heads, 7.0, -8.0), d(1, heads), bias(1, heads, 1.0, -4.0), s(sequences * states, channels);
  Floats dx(all, channels), ddt(all, heads), db(all, states), dc(all, states);
  Floats da(1, heads), dd(1, heads), dbias(1, heads);
  const SsdScan scan{.heads = heads,
                     .head_width = width,
                     .states = states,
                     .groups = 1,
                     .chunk = chunk,
                     .a = a.data(),
                     .d = d.data(),
                     .dt_bias = bias.data()};
  std::vector<SequenceRows> parts;
  for (std::int64_t i = 0; i < sequences; ++i) {
    parts.push_back(
        {.first_row = i * rows, .rows = rows, .state = reinterpret_cast<std::byte*>(s.data() + i * states * channels)});
  }
  Floats borders(ssd_chunk_count(chunk, parts) * states, channels);
  report_training(
      state, static_cast<double>(all * channels),
      [&] { ssd_scan(pool(), scan, x.rows(), dt.rows(), b.rows(), c.rows(), parts, y.rows()); },
      [&] { ssd_scan(pool(), scan, x.rows(), dt.rows(), b.rows(), c.rows(), parts, y.rows(), borders.data()); },
      [&] {
        ssd_scan_backward(pool(), scan, {.x = x.rows(), .dt = dt.rows(), .b = b.rows(), .c = c.rows()}, parts,
                          borders.data(), dy.rows(), {},
                          {.x = dx.rows(),
                           .dt = ddt.rows(),
                           .b = db.rows(),
                           .c = dc.rows(),
                           .a = da.data(),
                           .d = dd.data(),
                           .dt_bias = dbias.data()});
      });
}
BENCHMARK(SsdScanTraining)->ArgNames({"T", "B", "Q"})->ArgsProduct({{1024}, {2}, {32, 64, 128}})->UseRealTime();

}  // namespace
