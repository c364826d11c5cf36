// Attention with one softmax over several sources, as B'MOJO has it: a window of a token's own keys, the window before
// it of another stream, and an eidetic store of chosen tokens.
#include <algorithm>
#include <array>
#include <cstring>

#include "krait/kernels/eidetic_store.h"
#include "krait/kernels/reference/attention.h"
#include "krait/kernels/sequence_attention.h"
#include "tests/kernels/attention_testing.h"

namespace krait::kernels {
namespace {

using tests::Cache;
using tests::Expected;
using tests::kDtypes;
using tests::Matrix;
using tests::on_every_target;
using tests::shape;
using tests::stored;

// The store of one sequence.
struct Store {
  AlignedBuffer pages, scores, positions, pending, prediction;
  explicit Store(const EideticStore& store)
      : pages(static_cast<std::size_t>(kv_pages(store.size) * store.kv.page_bytes())),
        scores(static_cast<std::size_t>(store.size) * sizeof(float)),
        positions(static_cast<std::size_t>(store.size) * sizeof(std::int64_t)),
        pending(static_cast<std::size_t>(store.window) * sizeof(float)),
        prediction(static_cast<std::size_t>(store.kv.value_heads * store.kv.value_width) * sizeof(float)) {}
  EideticState state() {
    return {pages.data(), scores.as<float>().data(), positions.as<std::int64_t>().data(), pending.as<float>().data()};
  }
  bool operator==(const Store& other) const {
    const auto same = [](const AlignedBuffer& a, const AlignedBuffer& b) {
      return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
    };
    return same(pages, other.pages) && same(scores, other.scores) && same(positions, other.positions) &&
           same(pending, other.pending) && same(prediction, other.prediction);
  }
};

struct Outcome {  // of a run
  Matrix out;
  Store store;
};

// A window, the window before it of a fading stream with queries of its own, and a store of `size` tokens (0: none).
struct Case {
  Attention attention;
  std::int64_t size;
  Matrix q, fading_q, k, v, fading_k, fading_v;

  Case(const Attention& a, std::int64_t eidetic, std::int64_t tokens, Random& random)
      : attention(a),
        size(eidetic),
        q(tokens, a.query_heads * a.kv.key_width, 2, 1),
        fading_q(tokens, a.query_heads * a.kv.key_width),
        k(tokens, a.kv.key_heads * a.kv.key_width, 3),
        v(tokens, a.kv.value_heads * a.kv.value_width, 1, 1),
        fading_k(tokens, a.kv.key_heads * a.kv.key_width, 1),
        fading_v(tokens, a.kv.value_heads * a.kv.value_width, 0, 1) {
    for (Matrix* matrix : {&q, &fading_q, &k, &v, &fading_k, &fading_v}) matrix->fill_normal(random);
  }

  EideticStore store() const { return {.kv = attention.kv, .size = std::max<std::int64_t>(1, size), .window = w()}; }
  std::int64_t w() const { return attention.window; }

  // The whole sequence in chunks of these many tokens, the last one again and again.
  Outcome run(ThreadPool& pool, std::span<const std::int64_t> chunks) const {
    Cache near(attention.kv, 0, w() + 1), far(attention.kv, 0, 2 * w());
    Outcome result{Matrix(q.rows(), attention.query_heads * attention.kv.value_width, 2, 1), Store(store())};
    Matrix scores(q.rows(), 1);
    std::size_t next = 0;
    for (std::int64_t at = 0; at < q.rows();) {
      const std::int64_t rows = std::min(chunks[std::min(next++, chunks.size() - 1)], q.rows() - at);
      const KvSequence near_sequence = near.sequence(at, rows, at), far_sequence = far.sequence(at, rows, at);
      const SequenceRows prediction = {at, rows, result.store.prediction.data()};
      innovations(pool, fading_v.in(), v.in(), {&prediction, 1}, scores.out());
      EideticReading reading(pool, store(), {result.store.state()}, {&near_sequence, 1}, scores.in());
      std::vector<AttentionSource> sources = {
          {.q = q.in(), .k = k.in(), .v = v.in(), .sequences = {&near_sequence, 1}},
          {.q = fading_q.in(), .k = fading_k.in(), .v = fading_v.in(), .sequences = {&far_sequence, 1}, .delay = w()}};
      const KvSequence chosen = {.first_row = at, .rows = rows, .position = at};
      if (size > 0) {
        sources.push_back({.q = q.in(),
                           .k = {},
                           .v = {},
                           .sequences = {&chosen, 1},
                           .delay = 0,
                           .choose = [&](std::span<KvSequence> cut) { reading.choose(cut); }});
      }
      kernels::attention(pool, attention, sources, result.out.out());
      at += rows;
    }
    result.out.check_gaps();
    return result;
  }

  // Tokens in the order in which the store wants them, by the definition in double.
  std::vector<std::pair<double, std::int64_t>> innovation_of_tokens() const {
    std::vector<std::pair<double, std::int64_t>> result;
    for (std::int64_t j = 0; j < v.rows(); ++j) {
      double product = 0.0, predicted = 0.0, actual = 0.0;
      for (std::int64_t c = 0; c < v.columns(); ++c) {
        const double f = j == 0 ? 0.0 : double{fading_v.at(j - 1, c)};
        product += f * double{v.at(j, c)};
        predicted += f * f;
        actual += double{v.at(j, c)} * double{v.at(j, c)};
      }
      const bool none = predicted == 0.0 || actual == 0.0;
      result.emplace_back(none ? 1.0 : 1.0 - product / std::sqrt(predicted * actual), j);
    }
    return result;
  }

  // Whether the store keeps j when `token` is read: of those that have left the window, fewer than E are better.
  bool keeps(std::span<const std::pair<double, std::int64_t>> scores, std::int64_t token, std::int64_t j) const {
    if (j > token - w()) return false;
    std::int64_t better = 0;
    for (const auto& [score, i] : scores.first(static_cast<std::size_t>(token - w() + 1))) {
      const double own = scores[static_cast<std::size_t>(j)].first;
      if (score > own || (score == own && i < j)) ++better;
    }
    return better < size;
  }

  // What is right, the mean of |v| beside it, and the share of that which may be wrong.
  struct Right {
    Expected out, magnitude;
    double error;
  };
  Right right() const {
    const DType dtype = attention.kv.dtype;
    const std::array<Matrix, 2> keys = {stored(k, attention.kv.key_width, dtype),
                                        stored(fading_k, attention.kv.key_width, dtype)};
    const std::array<Matrix, 2> values = {stored(v, attention.kv.value_width, dtype),
                                          stored(fading_v, attention.kv.value_width, dtype)};
    const auto scores = innovation_of_tokens();
    const auto count = static_cast<std::size_t>(q.rows());
    std::vector<bool> kept(count * count);
    for (std::size_t i = 0; size > 0 && i < kept.size(); ++i) {
      kept[i] = keeps(scores, static_cast<std::int64_t>(i / count), static_cast<std::int64_t>(i % count));
    }
    const auto oracle = [&](const Matrix& near_values, const Matrix& far_values) {
      const std::array<reference::AttentionSource, 3> sources = {{
          {q.in(), keys[0].in(), near_values.in(), [&](auto t, auto j) { return t - w() < j && j <= t; }},
          {fading_q.in(), keys[1].in(), far_values.in(),
           [&](auto t, auto j) { return t - 2 * w() < j && j <= t - w(); }},
          {q.in(), keys[0].in(), near_values.in(),
           [&](auto t, auto j) { return kept[static_cast<std::size_t>(t) * count + static_cast<std::size_t>(j)]; }},
      }};
      Expected to(q.rows(), attention.query_heads * attention.kv.value_width);
      reference::attention(attention, sources, 0, to.out());
      return to;
    };
    const double score =
        std::max(tests::largest_score(attention, q, keys[0]), tests::largest_score(attention, fading_q, keys[1]));
    return {oracle(values[0], values[1]), oracle(values[0].absolute(), values[1].absolute()),
            tests::attention_error(attention, score, 2 * w() + size)};
  }
};

void expect_right(const Matrix& out, const Case::Right& right) {
  tests::expect_near(out, right.out, [&](auto r, auto c) { return right.error * right.magnitude.at(r, c); });
}

TEST(JointAttention, MatchesTheOracle) {
  on_every_target([] {
    Random random(15);
    ThreadPool pool(2);
    for (const DType dtype : kDtypes) {
      SCOPED_TRACE(to_string(dtype));
      for (const std::int64_t eidetic : {0, 1, 6, 70}) {
        for (const Attention& attention : {shape(4, 2, 2, 16, 16, dtype, 5), shape(3, 3, 3, 5, 7, dtype, 20),
                                           shape(7, 1, 1, 33, 64, dtype, 1), shape(8, 4, 2, 12, 24, dtype, 64)}) {
          const Case c(attention, eidetic, 150, random);
          const std::array<std::int64_t, 1> whole = {150};
          expect_right(c.run(pool, whole).out, c.right());
        }
      }
    }
  });
}

TEST(JointAttention, SplitAnywhereIsRightAndLeavesTheSameStore) {
  Random random(16);
  ThreadPool pool(2);
  for (const DType dtype : kDtypes) {
    for (const std::int64_t window : {3, 63, 64, 65}) {
      const Case c(shape(6, 2, 2, 16, 16, dtype, window), 9, 300, random);
      const std::array<std::int64_t, 1> all = {300};
      const Outcome whole = c.run(pool, all);
      const Case::Right right = c.right();
      for (const std::vector<std::int64_t>& chunks :
           {std::vector<std::int64_t>{1}, {3}, {64}, {63, 2, 64, 1, 10}, {200, 1}}) {
        const Outcome run = c.run(pool, chunks);
        expect_right(run.out, right);
        EXPECT_TRUE(run.store == whole.store) << "window " << window << ", first chunk " << chunks.front();
      }
    }
  }
}

// And of tokens that are all alike, those that came first.
TEST(JointAttention, TheStoreKeepsTheMostSurprisingAndOfEqualsTheOldest) {
  Random random(17);
  ThreadPool pool(2);
  Case c(shape(2, 1, 1, 8, 8, DType::kF32, 4), 5, 120, random);
  const std::array<std::int64_t, 2> chunks = {50, 7};
  Outcome run = c.run(pool, chunks);
  const auto scores = c.innovation_of_tokens();
  std::vector<std::int64_t> expected;
  for (std::int64_t j = 0; j < 120; ++j) {
    if (c.keeps(scores, 119, j)) expected.push_back(j);
  }
  const auto kept = [&](Outcome& of) {
    std::vector<std::int64_t> positions(of.store.positions.as<std::int64_t>().begin(),
                                        of.store.positions.as<std::int64_t>().begin() + c.size);
    std::ranges::sort(positions);
    return positions;
  };
  EXPECT_EQ(kept(run), expected);
  // Slots hold the bits of their tokens' keys.
  for (std::int64_t slot = 0; slot < c.size; ++slot) {
    const std::int64_t token = run.store.positions.as<std::int64_t>()[static_cast<std::size_t>(slot)];
    for (std::int64_t i = 0; i < 8; ++i) {
      EXPECT_EQ(run.store.pages.as<float>()[static_cast<std::size_t>(i * kKvPageTokens + slot)], c.k.at(token, i));
    }
  }
  for (std::int64_t row = 0; row < 120; ++row) {
    for (std::int64_t i = 0; i < 8; ++i) c.v.at(row, i) = c.fading_v.at(row, i) = static_cast<float>(i);
  }
  Outcome equal = c.run(pool, chunks);
  EXPECT_EQ(kept(equal), (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
  expect_right(equal.out, c.right());
}

TEST(JointAttention, NeighboursAndThreadsChangeNoBit) {
  Random random(18);
  const Case c(shape(6, 2, 2, 16, 16, DType::kF32, 6), 4, 90, random);
  const std::vector<std::int64_t> lengths = {40, 0, 1, 49};
  const auto run = [&](int threads, const std::vector<std::size_t>& which) {
    ThreadPool pool(threads);
    std::vector<Cache> near, far;
    std::vector<Store> stores;
    std::vector<EideticState> states;
    std::vector<KvSequence> near_sequences, far_sequences, chosen;
    std::vector<SequenceRows> predictions;
    near.reserve(lengths.size());
    far.reserve(lengths.size());
    stores.reserve(lengths.size());
    for (const std::size_t i : which) {
      std::int64_t row = 0;
      for (std::size_t j = 0; j < i; ++j) row += lengths[j];
      near_sequences.push_back(near.emplace_back(c.attention.kv, 0, c.w() + 1).sequence(row, lengths[i], 0));
      far_sequences.push_back(far.emplace_back(c.attention.kv, 0, 2 * c.w()).sequence(row, lengths[i], 0));
      chosen.push_back({.first_row = row, .rows = lengths[i]});
      Store& store = stores.emplace_back(c.store());
      states.push_back(store.state());
      predictions.push_back({row, lengths[i], store.prediction.data()});
    }
    Matrix scores(90, 1), out(90, 6 * 16);
    innovations(pool, c.fading_v.in(), c.v.in(), predictions, scores.out());
    EideticReading reading(pool, c.store(), states, near_sequences, scores.in());
    const std::array<AttentionSource, 3> sources = {
        {{.q = c.q.in(), .k = c.k.in(), .v = c.v.in(), .sequences = near_sequences},
         {.q = c.fading_q.in(), .k = c.fading_k.in(), .v = c.fading_v.in(), .sequences = far_sequences, .delay = c.w()},
         {.q = c.q.in(), .k = {}, .v = {}, .sequences = chosen, .delay = 0, .choose = [&](std::span<KvSequence> cut) {
            reading.choose(cut);
          }}}};
    kernels::attention(pool, c.attention, sources, out.out());
    return out;
  };
  const Matrix together = run(1, {0, 1, 2, 3});
  tests::expect_same_bits(together, run(3, {0, 1, 2, 3}));
  std::int64_t row = 0;
  for (std::size_t i = 0; i < lengths.size(); row += lengths[i++]) {
    const Matrix alone = run(2, {i});
    for (std::int64_t r = row; r < row + lengths[i]; ++r) {
      for (std::int64_t column = 0; column < 96; ++column) ASSERT_EQ(alone.at(r, column), together.at(r, column)) << i;
    }
  }
}

// Innovations with many equals among them: after every token the store of inference holds what the lists of training
// show to its row.
TEST(JointAttention, TrainingSeesWhatTheStoreKeeps) {
  Random random(20);
  ThreadPool pool(2);
  for (const auto& [size, window, rows] :
       {std::array<std::int64_t, 3>{5, 4, 150}, {1, 1, 90}, {70, 3, 200}, {64, 65, 140}, {9, 30, 20}, {300, 2, 100}}) {
    Matrix scores(rows + 3, 1, 1);
    scores.fill([&] { return std::round(3.0 * random.normal()) / 3.0; });
    // A short sequence and a row of nobody stand before it.
    const std::array<SequenceRows, 2> sequences = {{{0, 2}, {3, rows}}};
    const auto lifetimes = eidetic_lifetimes(pool, size, window, scores.in(), sequences);
    const KvShape kv = {.key_heads = 1, .key_width = 2, .value_heads = 1, .value_width = 2};
    const EideticStore store = {.kv = kv, .size = size, .window = window};
    Store kept(store);
    Cache ring(kv, 0, window + 1);
    for (std::int64_t row = 0; row < rows; ++row) {
      const KvSequence at = ring.sequence(3 + row, 1, row);
      EideticReading reading(pool, store, {kept.state()}, {&at, 1}, scores.in());
      KvSequence share = {.first_row = 3 + row, .rows = 1, .position = row};
      reading.choose({&share, 1});
      const std::int64_t filled = std::clamp<std::int64_t>(row + 1 - window, 0, size);
      const auto* const first = kept.positions.as<std::int64_t>().data();
      std::vector<std::int64_t> expected(first, first + filled), actual;
      for (const ChosenToken& one : lifetimes[1]) {
        if (one.first <= row && row < one.end) actual.push_back(one.token);
      }
      std::ranges::sort(expected);
      std::ranges::sort(actual);
      ASSERT_EQ(actual, expected) << "a store of " << size << ", row " << row;
    }
    for (const ChosenToken& one : lifetimes[1]) EXPECT_LT(one.first, one.end);
  }
}

TEST(JointAttention, WholeSequencesGiveWhatInferenceGives) {
  on_every_target([] {
    Random random(21);
    ThreadPool pool(2);
    for (const std::int64_t eidetic : {0, 1, 6, 70}) {
      for (const Attention& attention : {shape(4, 2, 2, 16, 16, DType::kF32, 5), shape(7, 1, 1, 33, 64, DType::kF32, 1),
                                         shape(8, 4, 2, 12, 24, DType::kF32, 64)}) {
        const Case c(attention, eidetic, 200, random);
        Matrix scores(200, 1), out(200, attention.query_heads * attention.kv.value_width);
        Matrix prediction(1, c.v.columns());
        const SequenceRows sequence = {0, 200, prediction.bytes()};
        innovations(pool, c.fading_v.in(), c.v.in(), {&sequence, 1}, scores.out());
        std::vector<SequenceSource<float>> sources = {
            {c.q.in(), c.k.in(), c.v.in(), c.w()}, {c.fading_q.in(), c.fading_k.in(), c.fading_v.in(), c.w(), c.w()}};
        std::vector<std::vector<ChosenToken>> lifetimes;
        if (eidetic > 0) {
          lifetimes = eidetic_lifetimes(pool, eidetic, c.w(), scores.in(), {&sequence, 1});
          sources.push_back({c.q.in(), c.k.in(), c.v.in(), 0, 0, lifetimes});
        }
        sequence_attention(pool, attention, sources, {.sequences = {&sequence, 1}}, out.out(), {});
        const Case::Right right = c.right();
        expect_right(out, right);
        const std::array<std::int64_t, 1> whole = {200};
        const Outcome inferred = c.run(pool, whole);
        for (std::int64_t r = 0; r < 200; ++r) {
          for (std::int64_t i = 0; i < out.columns(); ++i) {
            ASSERT_NEAR(out.at(r, i), inferred.out.at(r, i), 2.0 * right.error * right.magnitude.at(r, i));
          }
        }
      }
    }
  });
}

TEST(Innovations, MatchTheDefinitionInAnyCut) {
  Random random(19);
  Case c(shape(2, 2, 2, 5, 7, DType::kF32, 4), 1, 40, random);
  for (std::int64_t i = 0; i < 14; ++i) c.v.at(3, i) = c.fading_v.at(8, i) = 0.0F;  // no direction: e = 1
  const auto expected = c.innovation_of_tokens();
  tests::expect_a_cut_changes_no_bit(40, 1, Matrix(1, 14), [&](ThreadPool& pool, SequenceRows sequence, Matrix& out) {
    innovations(pool, c.fading_v.in(), c.v.in(), {&sequence, 1}, out.out());
    for (std::int64_t row = sequence.first_row; row < sequence.first_row + sequence.rows; ++row) {
      // A result of at most 2, rounded once; the double sums are exact beside it.
      EXPECT_NEAR(out.at(row, 0), expected[static_cast<std::size_t>(row)].first, 2.0 * tests::kRounding + 1e-14);
    }
  });
}

}  // namespace
}  // namespace krait::kernels
