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
#include "krait/kernels/activation.h"
#include "krait/kernels/activation_backward.h"
#include "krait/kernels/adamw.h"
#include "krait/kernels/conv1d_causal_backward.h"
#include "krait/kernels/dense_product.h"
#include "krait/kernels/layer_norm_backward.h"
#include "krait/kernels/machine_peak.h"
#include "krait/kernels/norm_backward.h"
#include "krait/kernels/token_loss.h"

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

constexpr std::int64_t kRows = 2048;

void AddRmsNormBackward(benchmark::State& state) {
  Values residual(kRows, 768), delta(kRows, 768), weight(1, 768), y(kRows, 768), dx(kRows, 768), dweight(1, 768);
  // The residual must not grow without bound over the runs.
  std::fill_n(delta.data(), kRows * 768, 1e-9F);
  const auto forward = [&] { add_rms_norm(pool(), residual.rows(), delta.rows(), weight.data(), 1e-5F, y.rows()); };
  const auto backward = [&] {
    add_rms_norm_backward(pool(), residual.rows(), weight.data(), 1e-5F, y.rows(), delta.rows(),
                          {.x = dx.rows(), .weight = dweight.data()});
  };
  report_backward(state, take_turns(state, forward, backward));
}
BENCHMARK(AddRmsNormBackward)->UseManualTime();

void GatedRmsNormBackward(benchmark::State& state) {
  const auto order = static_cast<GateOrder>(state.range(0));
  Values x(kRows, 1536), gate(kRows, 1536), weight(1, 1536), y(kRows, 1536);
  Values dx(kRows, 1536), dgate(kRows, 1536), dweight(1, 1536);
  const auto forward = [&] { gated_rms_norm(pool(), x.rows(), gate.rows(), weight.data(), 1e-5F, 1, order, y.rows()); };
  const auto backward = [&] {
    gated_rms_norm_backward(pool(), x.rows(), gate.rows(), weight.data(), 1e-5F, 1, order, y.rows(),
                            {.x = dx.rows(), .gate = dgate.rows(), .weight = dweight.data()});
  };
  report_backward(state, take_turns(state, forward, backward));
}
BENCHMARK(GatedRmsNormBackward)->ArgName("order")->Arg(0)->Arg(1)->UseManualTime();

void LayerNormBackward(benchmark::State& state) {
  Values x(kRows, 768), weight(1, 768), bias(1, 768), y(kRows, 768), dx(kRows, 768), dweight(1, 768), dbias(1, 768);
  const LayerNorm norm{.weight = weight.data(), .bias = bias.data()};
  const auto forward = [&] { layer_norm(pool(), norm, x.rows(), y.rows()); };
  const auto backward = [&] {
    layer_norm_backward(pool(), norm, x.rows(), y.rows(),
                        {.x = dx.rows(), .weight = dweight.data(), .bias = dbias.data()});
  };
  report_backward(state, take_turns(state, forward, backward));
}
BENCHMARK(LayerNormBackward)->UseManualTime();

void SiluGateBackward(benchmark::State& state) {
  Values x(kRows, 1536), gate(kRows, 1536), y(kRows, 1536), dx(kRows, 1536), dgate(kRows, 1536);
  const auto forward = [&] { silu_gate(pool(), x.rows(), gate.rows(), y.rows()); };
  const auto backward = [&] {
    silu_gate_backward(pool(), x.rows(), gate.rows(), y.rows(), {.x = dx.rows(), .gate = dgate.rows()});
  };
  report_backward(state, take_turns(state, forward, backward));
}
BENCHMARK(SiluGateBackward)->UseManualTime();

void SoftplusBackward(benchmark::State& state) {
  Values x(kRows, 1536), bias(1, 1536), y(kRows, 1536), dx(kRows, 1536), dbias(1, 1536);
  const auto forward = [&] { softplus(pool(), x.rows(), bias.data(), 0.0F, 1e30F, y.rows()); };
  const auto backward = [&] {
    softplus_backward(pool(), x.rows(), bias.data(), 0.0F, 1e30F, y.rows(), dx.rows(), dbias.data());
  };
  report_backward(state, take_turns(state, forward, backward));
}
BENCHMARK(SoftplusBackward)->UseManualTime();

// Loss, gradient of the hidden states and of the head: three products of M x D x V.
void TokenLossAndGradients(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = 768, words = 50280;
  const auto precision = static_cast<ProductPrecision>(state.range(1));
  if (precision == ProductPrecision::kBF16 && !gemm_bf16_available()) return state.SkipWithError("no bf16 product");
  Values hidden(rows, width), head(words, width), dhidden(rows, width), dhead(words, width);
  std::vector<std::int32_t> targets;
  for (std::int64_t i = 0; i < rows; ++i) targets.push_back(static_cast<std::int32_t>(i * 7919 % words));
  const double operations = 6.0 * static_cast<double>(rows * width * words);
  PeakProduct peak(operations / 4.0);
  const TokenLoss loss{.head = head.rows(), .vocabulary = words, .precision = precision};
  const Turns turns = take_turns(state, peak, [&] {
    token_loss(pool(), loss, hidden.rows(), targets, {}, nullptr, {.hidden = dhidden.rows(), .head = dhead.rows()});
  });
  state.counters["GFLOP/s"] = operations / turns.subject_wall * 1e-9;
  state.counters["of_peak"] = operations / peak.operations() / turns.wall_ratio;
  state.counters["of_peak_cpu"] = operations / peak.operations() / turns.processor_ratio;
}
BENCHMARK(TokenLossAndGradients)->ArgNames({"M", "precision"})->ArgsProduct({{1024}, {kF32, kBF16}})->UseManualTime();

// Against a plain read of as many bytes as the update reads and writes.
void AdamWUpdate(benchmark::State& state) {
  const std::int64_t count = std::int64_t{8} << 20;
  const bool averaged = state.range(0) != 0;
  Values p(count, 1), g(count, 1), m(count, 1), v(count, 1), average(count, 1);
  std::fill_n(v.data(), count, 1.0F);
  const auto span = [&](Values& of) { return std::span(of.data(), static_cast<std::size_t>(count)); };
  PlainRead read(pool());
  const std::int64_t bytes = count * 4 * (averaged ? 9 : 7);
  const Turns turns = take_turns(
      state, [&] { read.pass(bytes); },
      [&] {
        adamw_update(pool(), {.rate = 1e-9, .step = 1000},
                     {.values = span(p),
                      .gradient = span(g),
                      .m = span(m),
                      .v = span(v),
                      .average = averaged ? span(average) : std::span<float>()});
      });
  state.counters["GB/s"] = static_cast<double>(bytes) / turns.subject_wall * 1e-9;
  state.counters["of_read"] = 1.0 / turns.wall_ratio;
}
BENCHMARK(AdamWUpdate)->ArgName("average")->Arg(0)->Arg(1)->UseManualTime();

void GradientSumOfSquares(benchmark::State& state) {
  const std::int64_t count = std::int64_t{32} << 20;
  Values g(count, 1);
  PlainRead read(pool());
  const Turns turns = take_turns(
      state, [&] { read.pass(count * 4); },
      [&] { benchmark::DoNotOptimize(sum_of_squares(pool(), {g.data(), static_cast<std::size_t>(count)})); });
  state.counters["GB/s"] = static_cast<double>(count * 4) / turns.subject_wall * 1e-9;
  state.counters["of_read"] = 1.0 / turns.wall_ratio;
}
BENCHMARK(GradientSumOfSquares)->UseManualTime();

}  // namespace
