#include "krait/kernels/sequence_attention.h"

#include <array>

#include "krait/kernels/reference/attention.h"
#include "tests/kernels/sequence_attention_testing.h"

namespace krait::kernels {
namespace {

using tests::Cache;
using tests::Expected;
using tests::Matrix;
using tests::on_every_target;
using tests::SequenceBounds;
using tests::SequenceCase;
using tests::shape;
using tests::SourceShape;

struct Outcome {
  Matrix out, lse;
  explicit Outcome(const SequenceCase& c)
      : out(c.rows, c.upstream.columns(), 3, 1), lse(c.rows, c.attention.query_heads, 1) {}
};

Outcome run(ThreadPool& pool, const SequenceCase& c) {
  Outcome result(c);
  sequence_attention(pool, c.attention, c.views(), c.all(), result.out.out(), result.lse.out());
  result.out.check_gaps();
  result.lse.check_gaps();
  return result;
}

void expect_matches_oracle(ThreadPool& pool, const SequenceCase& c) {
  const Outcome actual = run(pool, c);
  const tests::DoubleSources in(c);
  Expected out(c.rows, c.upstream.columns()), lse(c.rows, c.attention.query_heads);
  reference::sequence_attention(c.attention, in.views, c.all(), out.out(), lse.out());
  const SequenceBounds bounds(c);
  tests::expect_near(actual.out, out, [&](auto r, auto i) { return bounds.out.at(r, i); });
  for (std::int64_t r = 0; r < c.rows; ++r) {
    for (std::int64_t h = 0; h < c.attention.query_heads; ++h) {
      if (std::isinf(lse.at(r, h))) {
        ASSERT_EQ(actual.lse.at(r, h), -INFINITY);
      } else {
        ASSERT_NEAR(actual.lse.at(r, h), lse.at(r, h), bounds.lse.at(r, h)) << "row " << r << ", head " << h;
      }
    }
  }
}

// Grouped heads, one key head for all, more query heads than rows of a block, shared values, odd widths.
const std::vector<Attention> kShapes = {
    shape(2, 2, 2, 16, 16, DType::kF32), shape(6, 2, 2, 5, 7, DType::kF32),   shape(3, 1, 1, 33, 64, DType::kF32),
    shape(8, 4, 2, 12, 24, DType::kF32), shape(101, 1, 1, 3, 4, DType::kF32),
};

TEST(SequenceAttention, MatchesTheOracleAtEveryLength) {
  on_every_target([] {
    ThreadPool pool(2);
    Random random(41);
    for (const std::int64_t length : {0, 1, 2, 15, 16, 17, 47, 48, 49, 63, 64, 65, 127, 128, 129, 200}) {
      SCOPED_TRACE(length);
      const std::array<std::int64_t, 2> lengths = {length, 20};
      for (const SourceShape source : {SourceShape{}, SourceShape{.window = 1}, SourceShape{.window = 37}}) {
        expect_matches_oracle(pool, SequenceCase(kShapes[1], {&source, 1}, lengths, random));
      }
    }
  });
}

TEST(SequenceAttention, MatchesTheOracleForAllHeadsSourcesAndPrefixes) {
  on_every_target([] {
    ThreadPool pool(2);
    Random random(42);
    const std::array<std::int64_t, 4> lengths = {150, 0, 1, 70};
    for (const Attention& attention : kShapes) {
      SCOPED_TRACE(testing::Message() << attention.query_heads << " heads");
      for (const std::vector<SourceShape>& sources : {
               std::vector<SourceShape>{{}},
               {{.listed = true}},
               {{.window = 20}, {.window = 20, .delay = 20}},
               {{.window = 9}, {.window = 0, .delay = 70}, {.listed = true}},
               {{.window = 5}, {.window = 64}, {.window = 1}, {}, {.listed = true}},
           }) {
        expect_matches_oracle(pool, SequenceCase(attention, sources, lengths, random));
      }
      for (const std::int64_t window : {0, 30}) {
        const std::array<SourceShape, 1> source = {{{.window = window}}};
        expect_matches_oracle(pool, SequenceCase(attention, source, lengths, random, true));
      }
    }
  });
}

// The kernel of inference, with a cache of pages, and its oracle.
TEST(SequenceAttention, IsWhatTheCacheGives) {
  on_every_target([] {
    ThreadPool pool(2);
    Random random(43);
    for (Attention attention : kShapes) {
      for (const std::int64_t window : {0, 40}) {
        attention.window = window;
        const std::array<SourceShape, 1> source = {{{.window = window}}};
        const std::array<std::int64_t, 1> lengths = {150};
        const SequenceCase c(attention, source, lengths, random);
        const SequenceCase::Source& s = c.sources.front();
        Matrix out(c.rows, c.upstream.columns());
        Cache cache(attention, 150, false);
        const KvSequence sequence = cache.sequence(0, 150, 0);
        attention.kv.dtype = DType::kF32;
        kernels::attention(pool, attention, s.q.in(), s.k.in(), s.v.in(), {&sequence, 1}, out.out());
        const Outcome actual = run(pool, c);
        const SequenceBounds bounds(c);  // of either
        for (std::int64_t r = 0; r < 150; ++r) {
          for (std::int64_t i = 0; i < out.columns(); ++i) {
            ASSERT_NEAR(actual.out.at(r, i), out.at(r, i), 2.0 * bounds.out.at(r, i)) << r << ", " << i;
          }
        }
        Expected oracle(150, out.columns()), other(c.rows, out.columns());
        reference::attention(attention, s.q.in().slice_rows(0, 150), 0, s.k.in().slice_rows(0, 150),
                             s.v.in().slice_rows(0, 150), oracle.out());
        const tests::DoubleSources in(c);
        reference::sequence_attention(attention, in.views, c.all(), other.out(), {});
        for (std::int64_t r = 0; r < 150; ++r) {
          for (std::int64_t i = 0; i < out.columns(); ++i) ASSERT_NEAR(oracle.at(r, i), other.at(r, i), 1e-13);
        }
      }
    }
  });
}

TEST(SequenceAttention, ARowThatSeesNothingGetsZeros) {
  ThreadPool pool(1);
  Random random(44);
  const std::array<SourceShape, 1> source = {{{.window = 3, .delay = 5}}};
  const std::array<std::int64_t, 1> lengths = {9};
  const SequenceCase c(kShapes[0], source, lengths, random);
  const Outcome actual = run(pool, c);
  for (std::int64_t r = 0; r < 5; ++r) {
    for (std::int64_t i = 0; i < actual.out.columns(); ++i) EXPECT_EQ(actual.out.at(r, i), 0.0F);
    for (std::int64_t h = 0; h < 2; ++h) EXPECT_EQ(actual.lse.at(r, h), -INFINITY);
  }
  EXPECT_NE(actual.out.at(5, 0), 0.0F);
}

TEST(SequenceAttention, ThreadsNeighboursAndAbsentLogarithmsChangeNoBit) {
  on_every_target([] {
    Random random(45);
    const std::vector<SourceShape> sources = {{.window = 30}, {.window = 30, .delay = 30}, {.listed = true}};
    const std::array<std::int64_t, 3> lengths = {130, 1, 64};
    for (const Attention& attention : kShapes) {
      SequenceCase c(attention, sources, lengths, random);
      ThreadPool one(1), three(3);
      const Outcome first = run(one, c), second = run(three, c);
      tests::expect_same_bits(first.out, second.out);
      tests::expect_same_bits(first.lse, second.lse);
      Outcome without(c);
      sequence_attention(one, c.attention, c.views(), c.all(), without.out.out(), {});
      tests::expect_same_bits(first.out, without.out);
      // The last sequence by itself.
      c.sequences = {c.sequences.back()};
      c.sources.back().chosen = {c.sources.back().chosen.back()};
      const Outcome alone = run(three, c);
      for (std::int64_t r = c.sequences[0].first_row; r < c.sequences[0].first_row + 64; ++r) {
        for (std::int64_t i = 0; i < alone.out.columns(); ++i) ASSERT_EQ(alone.out.at(r, i), first.out.at(r, i));
      }
    }
  });
}

}  // namespace
}  // namespace krait::kernels
