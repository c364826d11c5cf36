// Attention, B'MOJO's and HAX over whole sequences, two of 1024 tokens, forward and backward. An iteration runs both,
// one after the other, and a plain product of matrices in cache beside them, so that what is compared was measured in
// the same moment. Times are the smallest of all iterations. Operations are those of the tokens in view: 2 products
// forward, 5 backward.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "bench/bench_pool.h"
#include "krait/core/aligned_buffer.h"
#include "krait/core/random.h"
#include "krait/kernels/eidetic_store.h"
#include "krait/kernels/hax_sequence_backward.h"
#include "krait/kernels/matmul.h"
#include "krait/kernels/sequence_attention_backward.h"

namespace {

using namespace krait;
using namespace krait::kernels;
using bench::pool;

constexpr std::int64_t kTokens = 1024, kSequences = 2, kRows = kTokens * kSequences;

class Floats {
 public:
  Floats(std::int64_t rows, std::int64_t columns, double scale = 1.0)
      : rows_(rows), columns_(columns), buffer_(static_cast<std::size_t>(rows * columns) * sizeof(float)) {
    Random random(static_cast<std::uint64_t>(rows + columns));
    for (float& v : buffer_.as<float>()) v = static_cast<float>(scale * random.normal());
  }
  RowsOut rows() { return {buffer_.as<float>().data(), rows_, columns_}; }

 private:
  std::int64_t rows_, columns_;
  AlignedBuffer buffer_;
};

// Shortest times of several pieces of work that take turns.
class Shortest {
 public:
  template <class Work>
  double run(Work&& work) {
    const double seconds = bench::seconds_of(work);
    shortest_ = std::min(shortest_, seconds);
    return seconds;
  }
  double seconds() const { return shortest_; }

 private:
  double shortest_ = std::numeric_limits<double>::infinity();
};

// The f32 product of oneDNN on all threads, at a size where it is at its best.
class PlainProduct {
 public:
  PlainProduct() : x_(kSize, kSize), w_(kSize, kSize), y_(kSize, kSize) {
    weight_ = {.dtype = DType::kF32,
               .rows = kSize,
               .columns = kSize,
               .data = reinterpret_cast<const std::byte*>(w_.rows().data)};
  }
  void run() { linear(pool(), x_.rows(), weight_, nullptr, y_.rows()); }
  static double operations() { return 2.0 * kSize * kSize * kSize; }

 private:
  static constexpr std::int64_t kSize = 1024;
  Floats x_, w_, y_;
  WeightMatrix weight_;
};

void AttentionTraining(benchmark::State& state) {
  const std::int64_t heads = state.range(0), key_heads = state.range(1), width = state.range(2);
  const std::int64_t window = state.range(3);
  Attention attention;
  attention.kv = {.key_heads = key_heads, .key_width = width, .value_heads = key_heads, .value_width = width};
  attention.query_heads = heads;
  attention.scale = 1.0F / std::sqrt(static_cast<float>(width));
  Floats q(kRows, heads * width), k(kRows, key_heads * width), v(kRows, key_heads * width), out(kRows, heads * width);
  Floats lse(kRows, heads), upstream(kRows, heads * width);
  Floats q_gradient(kRows, heads * width), k_gradient(kRows, key_heads * width), v_gradient(kRows, key_heads * width);
  std::vector<SequenceRows> sequences;
  for (std::int64_t i = 0; i < kSequences; ++i) sequences.push_back({.first_row = i * kTokens, .rows = kTokens});
  const SequenceSource<float> source = {q.rows(), k.rows(), v.rows(), window};
  const SequenceAttentionGradients<float> gradients = {q_gradient.rows(), k_gradient.rows(), v_gradient.rows()};
  const AttentionSequences all = {.sequences = sequences};
  PlainProduct plain;
  Shortest forward, backward, product;
  for (auto _ : state) {
    double seconds =
        forward.run([&] { sequence_attention(pool(), attention, {&source, 1}, all, out.rows(), lse.rows()); });
    seconds += backward.run([&] {
      sequence_attention_backward(pool(), attention, {&source, 1}, all, out.rows(), lse.rows(), upstream.rows(),
                                  {&gradients, 1});
    });
    product.run([&] { plain.run(); });
    state.SetIterationTime(seconds);
  }
  double pairs = 0.0;  // a row and a token it sees
  for (std::int64_t t = 0; t < kTokens; ++t) pairs += static_cast<double>(window > 0 ? std::min(window, t + 1) : t + 1);
  const double operations = 2.0 * pairs * static_cast<double>(kSequences * heads * width);  // of one product
  const double peak = PlainProduct::operations() / product.seconds();
  state.counters["forward_ms"] = forward.seconds() * 1e3;
  state.counters["backward_ms"] = backward.seconds() * 1e3;
  state.counters["ratio"] = backward.seconds() / forward.seconds();
  state.counters["forward_of_sgemm"] = 2.0 * operations / forward.seconds() / peak;
  state.counters["backward_of_sgemm"] = 5.0 * operations / backward.seconds() / peak;
  state.counters["sgemm_GFLOP/s"] = peak * 1e-9;
}
BENCHMARK(AttentionTraining)
    ->ArgNames({"Hq", "Hk", "Dk", "window"})
    ->Args({12, 12, 64, 0})
    ->Args({12, 4, 64, 0})
    ->Args({12, 1, 64, 0})
    ->Args({6, 6, 128, 0})
    ->Args({12, 12, 64, 256})
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

// B'MOJO with tied weights: a window of tokens, the window before it of what the recurrence made of them, and a store
// of 64 tokens. What is shared by sources gets one gradient.
void BmojoTraining(benchmark::State& state) {
  const std::int64_t heads = 12, width = 64, window = state.range(0), columns = heads * width;
  Attention attention;
  attention.kv = {.key_heads = heads, .key_width = width, .value_heads = heads, .value_width = width};
  attention.query_heads = heads;
  attention.scale = 0.125F;
  Floats q(kRows, columns), k(kRows, columns), v(kRows, columns), fading_k(kRows, columns), fading_v(kRows, columns);
  Floats out(kRows, columns), lse(kRows, heads), upstream(kRows, columns), innovation(kRows, 1);
  Floats q_gradient(kRows, columns), k_gradient(kRows, columns), v_gradient(kRows, columns);
  Floats fading_k_gradient(kRows, columns), fading_v_gradient(kRows, columns);
  std::vector<SequenceRows> sequences;
  for (std::int64_t i = 0; i < kSequences; ++i) sequences.push_back({.first_row = i * kTokens, .rows = kTokens});
  Shortest choice, forward, backward;
  for (auto _ : state) {
    std::vector<std::vector<ChosenToken>> chosen;
    double seconds = choice.run([&] { chosen = eidetic_lifetimes(pool(), 64, window, innovation.rows(), sequences); });
    const std::vector<SequenceSource<float>> sources = {{q.rows(), k.rows(), v.rows(), window},
                                                        {q.rows(), fading_k.rows(), fading_v.rows(), window, window},
                                                        {q.rows(), k.rows(), v.rows(), 0, 0, chosen}};
    const std::vector<SequenceAttentionGradients<float>> gradients = {
        {q_gradient.rows(), k_gradient.rows(), v_gradient.rows()},
        {q_gradient.rows(), fading_k_gradient.rows(), fading_v_gradient.rows()},
        {q_gradient.rows(), k_gradient.rows(), v_gradient.rows()}};
    const AttentionSequences all = {.sequences = sequences};
    seconds += forward.run([&] { sequence_attention(pool(), attention, sources, all, out.rows(), lse.rows()); });
    seconds += backward.run([&] {
      sequence_attention_backward(pool(), attention, sources, all, out.rows(), lse.rows(), upstream.rows(), gradients);
    });
    state.SetIterationTime(seconds);
  }
  state.counters["choice_ms"] = choice.seconds() * 1e3;
  state.counters["forward_ms"] = forward.seconds() * 1e3;
  state.counters["backward_ms"] = backward.seconds() * 1e3;
  state.counters["ratio"] = backward.seconds() / (choice.seconds() + forward.seconds());
}
BENCHMARK(BmojoTraining)->ArgName("window")->Arg(128)->Arg(256)->Unit(benchmark::kMillisecond)->UseManualTime();

// The sizes of HAX's published configurations: 64 keys, half of them recent ones of 2^8 buckets.
void HaxTraining(benchmark::State& state) {
  const std::int64_t states = state.range(0), inner = state.range(1);
  HaxAttention hax{.key_width = states, .value_width = inner, .hashes = 8, .recent = 32, .selected = 32};
  Floats q(kRows, states, 0.5), k(kRows, states, 0.5), v(kRows, inner), y(kRows, inner), upstream(kRows, inner);
  Floats scores(kRows, 1), scale(1, inner), projection(states, 8);
  Floats q_gradient(kRows, states), k_gradient(kRows, states), v_gradient(kRows, inner), scale_gradient(1, inner);
  hax.hash_projection = projection.rows().data;
  std::vector<std::int32_t> lists(static_cast<std::size_t>(kRows * 65));
  const Rows<std::int32_t> tokens(lists.data(), kRows, 65);
  std::vector<SequenceRows> sequences;
  for (std::int64_t i = 0; i < kSequences; ++i) sequences.push_back({.first_row = i * kTokens, .rows = kTokens});
  const HaxReads<float> in = {q.rows(), k.rows(), v.rows(), scale.rows().data, tokens};
  Shortest choice, forward, backward;
  for (auto _ : state) {
    double seconds =
        choice.run([&] { hax_choose_tokens(pool(), hax, q.rows(), k.rows(), scores.rows(), sequences, tokens); });
    seconds += forward.run([&] { hax_sequence(pool(), in, sequences, y.rows()); });
    seconds += backward.run([&] {
      hax_sequence_backward(pool(), in, sequences, upstream.rows(),
                            {q_gradient.rows(), k_gradient.rows(), v_gradient.rows(), scale_gradient.rows().data});
    });
    state.SetIterationTime(seconds);
  }
  state.counters["choice_ms"] = choice.seconds() * 1e3;
  state.counters["forward_ms"] = forward.seconds() * 1e3;
  state.counters["backward_ms"] = backward.seconds() * 1e3;
  state.counters["ratio"] = backward.seconds() / (choice.seconds() + forward.seconds());
}
BENCHMARK(HaxTraining)
    ->ArgNames({"N", "E"})
    ->Args({16, 1536})
    ->Args({128, 1536})
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

}  // namespace
