// What a training step does beside scans and attention, at the shapes of mamba-130m (D 768, E 1536, R 48, V 50280) and
// 2048 rows. Each iteration runs the subject and, before and after it, what it is measured against: a product against
// oneDNN tiles in cache on all threads (as machine_peak.h measures), a backward kernel against its forward. Counters
// hold the median of the iterations' ratios, by the wall clock and by the process's processor time, which neighbours on
// the machine do not lengthen.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <vector>

#include "bench/bench_pool.h"
#include "krait/core/aligned_buffer.h"
#include "krait/core/random.h"
#include "krait/kernels/conv1d_causal_backward.h"
#include "krait/kernels/dense_product.h"

namespace {

using namespace krait;
using namespace krait::kernels;
using bench::pool;

class Values {
 public:
  Values(std::int64_t rows, std::int64_t columns)
      : rows_(rows), columns_(columns), buffer_(static_cast<std::size_t>(rows * columns) * sizeof(float)) {
    Random random(static_cast<std::uint64_t>(rows + columns));
    for (float& v : buffer_.as<float>()) v = static_cast<float>(2.0 * random.uniform() - 1.0);
  }
  float* data() { return buffer_.as<float>().data(); }
  std::byte* bytes() { return buffer_.data(); }
  RowsOut rows() { return {data(), rows_, columns_}; }

 private:
  std::int64_t rows_, columns_;
  AlignedBuffer buffer_;
};

struct Seconds {
  double wall, processor;
};

double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

template <class Work>
Seconds measure(Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  const double processor = processor_seconds();
  work();
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
          processor_seconds() - processor};
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// Medians over all iterations, of the subject's seconds and of its time as a multiple of the other's.
struct Turns {
  double subject_wall, wall_ratio, processor_ratio;
};

template <class Against, class Subject>
Turns take_turns(benchmark::State& state, Against&& against, Subject&& subject) {
  std::vector<double> walls, wall_ratios, processor_ratios;
  against();
  subject();
  for (auto _ : state) {
    const Seconds before = measure(against), seconds = measure(subject), after = measure(against);
    state.SetIterationTime(seconds.wall);
    walls.push_back(seconds.wall);
    wall_ratios.push_back(2.0 * seconds.wall / (before.wall + after.wall));
    processor_ratios.push_back(2.0 * seconds.processor / (before.processor + after.processor));
  }
  return {median(walls), median(wall_ratios), median(processor_ratios)};
}

// oneDNN tiles in cache on all threads: about half as many operations as asked for, as fast as they can be.
class PeakProduct {
 public:
  static constexpr std::int64_t kM = 512, kN = 384, kK = 512;
  explicit PeakProduct(double operations)
      : tiles_(std::max<std::int64_t>(pool().size(), static_cast<std::int64_t>(operations / (4.0 * kM * kN * kK)))),
        operands_(pool().size() * (kM * kK + kK * kN + kM * kN), 1) {}
  double operations() const { return 2.0 * kM * kN * kK * static_cast<double>(tiles_); }
  void operator()() {
    pool().parallel_for(tiles_, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        float* const a = operands_.data() + ThreadPool::thread_index() * (kM * kK + kK * kN + kM * kN);
        gemm_f32({}, kM, kN, kK, a, kK, a + kM * kK, kN, a + kM * kK + kK * kN, kN);
      }
    });
  }

 private:
  std::int64_t tiles_;
  Values operands_;
};

enum Product { kForward, kInput, kWeight };  // y = x W^T, dx = dy W, dW += dy^T x

void DenseProduct(benchmark::State& state) {
  const std::int64_t m = state.range(0), k = state.range(1), n = state.range(2);
  const auto precision = static_cast<ProductPrecision>(state.range(4));
  if (precision == ProductPrecision::kBF16 && !gemm_bf16_available()) return state.SkipWithError("no bf16 product");
  Values x(m, k), y(m, n), weight(n, k);
  const double operations = 2.0 * static_cast<double>(m * k * n);
  PeakProduct peak(operations);
  const auto product = [&] {
    switch (state.range(3)) {
      case kForward: return dense_product(pool(), {.b_transposed = true}, x.rows(), weight.rows(), y.rows(), precision);
      case kInput: return dense_product(pool(), {}, y.rows(), weight.rows(), x.rows(), precision);
      default:
        return dense_product(pool(), {.a_transposed = true, .add = true}, y.rows(), x.rows(), weight.rows(), precision);
    }
  };
  const Turns turns = take_turns(state, peak, product);
  state.counters["GFLOP/s"] = operations / turns.subject_wall * 1e-9;
  state.counters["of_peak"] = operations / peak.operations() / turns.wall_ratio;
  state.counters["of_peak_cpu"] = operations / peak.operations() / turns.processor_ratio;
  state.SetLabel(state.range(3) == kForward ? "y" : state.range(3) == kInput ? "dx" : "dW");
}
constexpr auto kF32 = static_cast<std::int64_t>(ProductPrecision::kF32);
constexpr auto kBF16 = static_cast<std::int64_t>(ProductPrecision::kBF16);
BENCHMARK(DenseProduct)
    ->ArgNames({"M", "K", "N", "product", "precision"})
    ->ArgsProduct({{2048}, {768}, {3072}, {kForward, kInput, kWeight}, {kF32, kBF16}})
    ->ArgsProduct({{2048}, {1536}, {768}, {kForward, kInput, kWeight}, {kF32, kBF16}})
    ->ArgsProduct({{2048}, {1536}, {80}, {kForward, kInput, kWeight}, {kF32, kBF16}})
    ->ArgsProduct({{2048}, {48}, {1536}, {kForward, kInput, kWeight}, {kF32, kBF16}})
    ->ArgsProduct({{2048}, {768}, {50280}, {kForward, kInput, kWeight}, {kF32, kBF16}})
    ->UseManualTime();

void report_backward(benchmark::State& state, const Turns& turns) {
  state.counters["backward_ms"] = turns.subject_wall * 1e3;
  state.counters["to_forward"] = turns.wall_ratio;
  state.counters["to_forward_cpu"] = turns.processor_ratio;
}

void Conv1dBackward(benchmark::State& state) {
  const std::int64_t rows = 1024, channels = state.range(0);
  Values x(2 * rows, channels), y(2 * rows, channels), dy(2 * rows, channels), dx(2 * rows, channels);
  Values weight(4, channels), bias(1, channels), dweight(4, channels), dbias(1, channels), windows(6, channels);
  const Conv1dCausal conv{.width = 4, .weight = weight.data(), .bias = bias.data(), .silu = true};
  std::vector<SequenceRows> sequences;
  for (const std::int64_t i : {0, 1}) {
    sequences.push_back({.first_row = i * rows, .rows = rows, .state = windows.bytes() + i * 3 * channels * 4});
  }
  const auto forward = [&] { conv1d_causal(pool(), conv, x.rows(), sequences, y.rows()); };
  const auto backward = [&] {
    conv1d_causal_backward(pool(), conv, x.rows(), dy.rows(), sequences, {},
                           {.x = dx.rows(), .weight = dweight.data(), .bias = dbias.data()});
  };
  report_backward(state, take_turns(state, forward, backward));
}
BENCHMARK(Conv1dBackward)->ArgName("C")->Arg(1536)->Arg(1792)->UseManualTime();

}  // namespace
