#include "krait/kernels/hax_attention.h"

#include "krait/kernels/reference/attention.h"
#include "tests/kernels/hax_testing.h"

namespace krait::kernels {
namespace {

using tests::Expected;
using tests::Matrix;
using tests::on_every_target;
using Case = tests::HaxCase;

void expect_matches_oracle(ThreadPool& pool, const Case& c, Random& random) {
  const std::int64_t rows = c.v.rows(), width = c.hax.value_width;
  Matrix y(rows, width, 3, 1);
  y.fill_normal(random);
  Expected expected(rows, width);
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t e = 0; e < width; ++e) expected.out().row(t)[e] = double{y.at(t, e)};
  }
  const Expected bound = bound_of(c, y);
  reference::hax_attention(c.hax, c.inputs(), expected.out());
  c.run(pool, y);
  tests::expect_near(y, expected, [&](auto r, auto e) { return bound.at(r, e); });
  y.check_gaps();
}

TEST(HaxAttention, MatchesOracleAtEveryWidth) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t width : tests::kLengths) {
      for (const std::int64_t rows : {0, 1, 2, 40}) {
        SCOPED_TRACE(::testing::Message() << "E " << width << ", " << rows << " rows");
        const HaxAttention sizes{.key_width = 5, .value_width = width, .hashes = 2, .recent = 3, .selected = 4};
        expect_matches_oracle(pool, Case(rows, sizes, random), random);
      }
    }
  });
}

TEST(HaxAttention, MatchesOracleAtEveryBudgetAndNumberOfHashes) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(2);
    for (const auto& [recent, selected] : {std::pair{1, 0}, {0, 1}, {1, 1}, {2, 9}, {17, 16}, {0, 5}, {33, 0}}) {
      for (const std::int64_t hashes : {1, 3, 8, 11}) {
        SCOPED_TRACE(::testing::Message() << recent << " recent, " << selected << " selected, " << hashes << " hashes");
        const HaxAttention sizes{
            .key_width = 16, .value_width = 20, .hashes = hashes, .recent = recent, .selected = selected};
        expect_matches_oracle(pool, Case(120, sizes, random), random);
      }
    }
  });
}

// The best of all tokens, where there is room for all: attention as everybody knows it, over keys that the rings hold
// as well, which must not count twice.
TEST(HaxAttention, WithRoomForAllTokensIsFullAttention) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(3);
    const HaxAttention sizes{.key_width = 12, .value_width = 24, .hashes = 1, .recent = 9, .selected = 50};
    Case c(50, sizes, random);
    c.scale.fill([] { return 1.0; });
    Matrix y(50, 24);
    const Expected bound = bound_of(c, y);
    c.run(pool, y);
    Attention full;
    full.query_heads = 1;
    full.scale = 1.0F;
    full.kv = {.key_heads = 1, .key_width = 12, .value_heads = 1, .value_width = 24};
    Expected expected(50, 24);
    reference::attention(full, c.q.in(), 0, c.k.in(), c.v.in(), expected.out());
    tests::expect_near(y, expected, [&](auto r, auto e) { return bound.at(r, e); });
  });
}

// One query asks for a bucket that no key has yet: nothing is added.
TEST(HaxAttention, AnEmptySetAddsNothing) {
  ThreadPool pool(1);
  Random random(4);
  const HaxAttention sizes{.key_width = 4, .value_width = 6, .hashes = 1, .recent = 2, .selected = 0};
  Case c(1, sizes, random);
  for (std::int64_t i = 0; i < 4; ++i) {
    c.centred_q.at(0, i) = c.projection.at(i, 0);
    c.centred_k.at(0, i) = -c.projection.at(i, 0);
  }
  Matrix y(1, 6);
  y.fill_normal(random);
  const Matrix before = y;
  c.run(pool, y);
  tests::expect_same_bits(y, before);
}

TEST(HaxAttention, SplitAnywhereGivesTheSameBits) {
  on_every_target([&] {
    Random random(5);
    const HaxAttention sizes{.key_width = 7, .value_width = 37, .hashes = 2, .recent = 3, .selected = 4};
    const Case c(45, sizes, random);
    tests::expect_a_cut_changes_no_bit(
        45, 37, c.empty_state(),
        [&](ThreadPool& pool, const SequenceRows& sequence, Matrix& y) { c.run(pool, {&sequence, 1}, y); });
  });
}

TEST(HaxAttention, SequencesOfABatchAndThreadsDoNotMatter) {
  on_every_target([&] {
    Random random(6);
    const HaxAttention sizes{.key_width = 8, .value_width = 150, .hashes = 2, .recent = 4, .selected = 4};
    const Case c(60, sizes, random);
    tests::expect_sequences_and_threads_do_not_matter(
        150, c.empty_state(),
        [&](ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& y) { c.run(pool, sequences, y); });
  });
}

}  // namespace
}  // namespace krait::kernels
