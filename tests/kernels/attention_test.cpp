#include "krait/kernels/attention.h"

#include "krait/kernels/reference/attention.h"
#include "tests/kernels/attention_testing.h"

namespace krait::kernels {
namespace {

using tests::Cache;
using tests::Expected;
using tests::kDtypes;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;
using tests::shape;
using tests::stored;

struct Case {
  Attention attention;
  bool ring;
  Matrix q, k, v;

  Case(const Attention& a, bool in_ring, std::int64_t tokens, Random& random)
      : attention(a),
        ring(in_ring),
        q(tokens, a.query_heads * a.kv.key_width, 2, 1),
        k(tokens, a.kv.key_heads * a.kv.key_width, 3),
        v(tokens, a.kv.value_heads * a.kv.value_width, 1, 1) {
    q.fill_normal(random);
    k.fill_normal(random);
    v.fill_normal(random);
  }

  // The whole sequence in chunks of these many tokens, the last one again and again.
  Matrix run(ThreadPool& pool, std::span<const std::int64_t> chunks) const {
    Cache cache(attention, q.rows(), ring);
    Matrix out(q.rows(), attention.query_heads * attention.kv.value_width, 2, 1);
    std::size_t next = 0;
    for (std::int64_t at = 0; at < q.rows();) {
      const std::int64_t rows = std::min(chunks[std::min(next++, chunks.size() - 1)], q.rows() - at);
      const KvSequence sequence = cache.sequence(at, rows, at);
      kernels::attention(pool, attention, q.in(), k.in(), v.in(), {&sequence, 1}, out.out());
      at += rows;
    }
    out.check_gaps();
    return out;
  }

  void expect_right(const Matrix& out) const {
    const Matrix keys = stored(k, attention.kv.key_width, attention.kv.dtype);
    const Matrix values = stored(v, attention.kv.value_width, attention.kv.dtype);
    Expected expected(out.rows(), out.columns());
    reference::attention(attention, q.in(), 0, keys.in(), values.in(), expected.out());
    Expected size(out.rows(), out.columns());
    reference::attention(attention, q.in(), 0, keys.in(), values.absolute().in(), size.out());
    const double error = tests::attention_error(attention, tests::largest_score(attention, q, keys), q.rows());
    tests::expect_near(out, expected, [&](auto r, auto c) { return error * size.at(r, c); });
  }
};

TEST(Attention, MatchesTheOracle) {
  on_every_target([] {
    Random random(5);
    ThreadPool pool(2);
    for (const DType dtype : kDtypes) {
      SCOPED_TRACE(to_string(dtype));
      for (const std::int64_t tokens : {1, 2, 63, 64, 65, 150}) {
        for (const Attention& attention :
             {shape(4, 2, 2, 16, 16, dtype), shape(3, 3, 3, 5, 7, dtype), shape(7, 1, 1, 33, 64, dtype),
              shape(8, 4, 2, 12, 24, dtype), shape(4, 2, 2, 8, 8, dtype, 20)}) {
          const Case c(attention, false, tokens, random);
          const std::array<std::int64_t, 1> whole = {tokens};
          c.expect_right(c.run(pool, whole));
        }
      }
    }
  });
}

// Rounding depends on whether rows go through the cache one by one or together, nothing else does.
TEST(Attention, SplitAnywhereIsRight) {
  Random random(6);
  ThreadPool pool(2);
  for (const DType dtype : kDtypes) {
    const Case c(shape(6, 2, 2, 16, 16, dtype), false, 140, random);
    const Case window(shape(6, 2, 1, 16, 16, dtype, 30), false, 140, random);
    const Case ring(window.attention, true, 140, random);
    for (const std::vector<std::int64_t>& chunks :
         {std::vector<std::int64_t>{140}, {1}, {3}, {64}, {63, 2, 64, 1, 10}, {100, 1}}) {
      c.expect_right(c.run(pool, chunks));
      window.expect_right(window.run(pool, chunks));
      ring.expect_right(ring.run(pool, chunks));
    }
  }
}

TEST(Attention, ARingHoldsWhatAWindowNeeds) {
  Random random(7);
  ThreadPool pool(1);
  for (const std::int64_t window : {1, 2, 63, 64, 65, 66, 100, 128, 129}) {
    const Case c(shape(2, 1, 1, 8, 8, DType::kF32, window), true, 400, random);
    for (const std::int64_t chunk : {1, 7, 64, 130, 400}) c.expect_right(c.run(pool, {&chunk, 1}));
  }
}

// More than one part a row (16 pages each).
TEST(Attention, LongCachesAreCutIntoParts) {
  Random random(8);
  ThreadPool pool(2);
  Case c(shape(4, 1, 1, 8, 8, DType::kF32), false, 2500, random);
  c.attention.scale = 2.0F;  // few keys matter, in any part
  const std::array<std::int64_t, 2> chunks = {2490, 1};
  const Matrix out = c.run(pool, chunks);
  Expected expected(out.rows(), out.columns());
  reference::attention(c.attention, c.q.in(), 0, c.k.in(), c.v.in(), expected.out());
  // A score of up to 30 with 13 roundings, twice.
  tests::expect_near(out, expected, [](auto, auto) { return 4.0 * 30.0 * 13.0 * kRounding; });
}

TEST(Attention, NeighboursAndThreadsChangeNoBit) {
  Random random(9);
  const Attention attention = shape(6, 2, 2, 16, 16, DType::kF32);
  const std::vector<std::int64_t> lengths = {1, 0, 70, 1, 2}, positions = {1100, 5, 0, 0, 127};
  std::vector<Matrix> results;
  Case c(attention, false, 74, random);
  std::vector<Case> pasts;
  for (const std::int64_t position : positions)
    pasts.emplace_back(attention, false, std::max<std::int64_t>(1, position), random);
  const auto run = [&](ThreadPool& pool, std::vector<std::size_t> which) {
    std::vector<Cache> caches;
    caches.reserve(lengths.size());
    std::vector<KvSequence> sequences;
    Matrix out(74, 6 * 16);
    std::int64_t row = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      Cache& cache = caches.emplace_back(attention, positions[i] + lengths[i], false);
      if (positions[i] > 0) {
        const KvSequence past = cache.sequence(0, positions[i], 0);
        Matrix ignored(pasts[i].q.rows(), out.columns());
        kernels::attention(pool, attention, pasts[i].q.in(), pasts[i].k.in(), pasts[i].v.in(), {&past, 1},
                           ignored.out());
      }
      if (std::ranges::find(which, i) != which.end())
        sequences.push_back(cache.sequence(row, lengths[i], positions[i]));
      row += lengths[i];
    }
    kernels::attention(pool, attention, c.q.in(), c.k.in(), c.v.in(), sequences, out.out());
    return out;
  };
  ThreadPool one(1), three(3);
  const Matrix together = run(one, {0, 1, 2, 3, 4});
  tests::expect_same_bits(together, run(three, {0, 1, 2, 3, 4}));
  std::int64_t row = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const Matrix alone = run(three, {i});
    for (std::int64_t r = row; r < row + lengths[i]; ++r) {
      for (std::int64_t column = 0; column < together.columns(); ++column) {
        ASSERT_EQ(alone.at(r, column), together.at(r, column)) << "sequence " << i;
      }
    }
    row += lengths[i];
  }
}

// A layer that reads another one's cache (cross attention, YOCO) sees what that one stored.
TEST(Attention, WithoutNewKeysReadsTheCache) {
  Random random(10);
  ThreadPool pool(2);
  const Case c(shape(4, 2, 2, 16, 16, DType::kF32), false, 90, random);
  Cache cache(c.attention, 90, false);
  const KvSequence sequence = cache.sequence(0, 90, 0);
  Matrix first(90, 64), second(90, 64);
  attention(pool, c.attention, c.q.in(), c.k.in(), c.v.in(), {&sequence, 1}, first.out());
  attention(pool, c.attention, c.q.in(), {}, {}, {&sequence, 1}, second.out());
  tests::expect_same_bits(first, second);
}

TEST(KvPage, NotANumberStaysOne) {
  for (const DType dtype : kDtypes) {
    const KvShape shape = {.key_heads = 1, .key_width = 2, .value_heads = 1, .value_width = 2, .dtype = dtype};
    AlignedBuffer page(static_cast<std::size_t>(shape.page_bytes()));
    std::byte* pages = page.data();
    Matrix rows(1, 2);
    rows.at(0, 0) = std::nanf("");
    const KvSequence sequence = {.first_row = 0, .rows = 1, .position = 0, .pages = &pages, .offset = 0};
    store_keys(shape, sequence, 0, 0, 1, 0, rows.in());
    store_values(shape, sequence, 0, 0, 1, 0, rows.in());
    Attention attention{.kv = shape, .query_heads = 1};
    Matrix q(1, 2), out(1, 2);
    q.at(0, 0) = 1.0F;
    ThreadPool pool(1);
    kernels::attention(pool, attention, q.in(), {}, {}, {&sequence, 1}, out.out());
    EXPECT_TRUE(std::isnan(out.at(0, 0))) << to_string(dtype);
  }
}

}  // namespace
}  // namespace krait::kernels
