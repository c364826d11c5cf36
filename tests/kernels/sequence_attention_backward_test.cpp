#include "krait/kernels/sequence_attention_backward.h"

#include <array>

#include "tests/kernels/sequence_attention_testing.h"

namespace krait::kernels {
namespace {

using tests::Expected;
using tests::Matrix;
using tests::on_every_target;
using tests::SequenceBounds;
using tests::SequenceCase;
using tests::shape;
using tests::SourceShape;

struct OracleGradients {
  std::vector<Expected> q, k, v;
  explicit OracleGradients(const SequenceCase& c) {
    for (const SequenceCase::Source& s : c.sources) {
      q.emplace_back(c.rows, s.q.columns());
      k.emplace_back(c.rows, s.k.columns());
      v.emplace_back(c.rows, s.v.columns());
    }
    const tests::DoubleSources in(c);
    Expected upstream = tests::in_double(c.upstream);
    std::vector<SequenceAttentionGradients<double>> gradients;
    for (std::size_t s = 0; s < q.size(); ++s) gradients.push_back({q[s].out(), k[s].out(), v[s].out()});
    reference::sequence_attention_backward(c.attention, in.views, c.all(), upstream.out(), gradients);
  }
};

struct Gradients {
  std::vector<Matrix> q, k, v;
  explicit Gradients(const SequenceCase& c) {
    for (const SequenceCase::Source& s : c.sources) {
      q.emplace_back(c.rows, s.q.columns(), 2, 1);
      k.emplace_back(c.rows, s.k.columns(), 1);
      v.emplace_back(c.rows, s.v.columns(), 3, 1);
    }
  }
};

Gradients run(ThreadPool& pool, const SequenceCase& c) {
  Matrix out(c.rows, c.upstream.columns(), 1), lse(c.rows, c.attention.query_heads);
  sequence_attention(pool, c.attention, c.views(), c.all(), out.out(), lse.out());
  Gradients result(c);
  std::vector<SequenceAttentionGradients<float>> gradients;
  for (std::size_t s = 0; s < c.sources.size(); ++s) {
    for (Matrix* matrix : {&result.q[s], &result.k[s], &result.v[s]}) matrix->fill([] { return 7.0; });
    gradients.push_back({result.q[s].out(), result.k[s].out(), result.v[s].out()});
  }
  sequence_attention_backward(pool, c.attention, c.views(), c.all(), out.in(), lse.in(), c.upstream.in(), gradients);
  for (const auto* matrices : {&result.q, &result.k, &result.v}) {
    for (const Matrix& matrix : *matrices) matrix.check_gaps();
  }
  return result;
}

// In the rows of sequences; the others keep what they had.
void expect_near(const SequenceCase& c, const Matrix& actual, const Expected& expected, const Expected& bound) {
  std::vector<bool> inside(static_cast<std::size_t>(c.rows));
  for (const SequenceRows& s : c.sequences) {
    for (std::int64_t r = 0; r < s.rows; ++r) inside[static_cast<std::size_t>(s.first_row + r)] = true;
  }
  for (std::int64_t r = 0; r < c.rows; ++r) {
    for (std::int64_t i = 0; i < actual.columns(); ++i) {
      if (inside[static_cast<std::size_t>(r)]) {
        ASSERT_NEAR(actual.at(r, i), expected.at(r, i), bound.at(r, i) + tests::kTiny) << "row " << r << ", " << i;
      } else {
        ASSERT_EQ(actual.at(r, i), 7.0F);
      }
    }
  }
}

void expect_matches_oracle(ThreadPool& pool, const SequenceCase& c) {
  const Gradients actual = run(pool, c);
  const OracleGradients expected(c);
  const SequenceBounds bounds(c);
  for (std::size_t s = 0; s < c.sources.size(); ++s) {
    SCOPED_TRACE(testing::Message() << "source " << s);
    expect_near(c, actual.q[s], expected.q[s], bounds.q[s]);
    expect_near(c, actual.k[s], expected.k[s], bounds.k[s]);
    expect_near(c, actual.v[s], expected.v[s], bounds.v[s]);
  }
}

const std::vector<Attention> kShapes = {
    shape(2, 2, 2, 16, 16, DType::kF32), shape(6, 2, 2, 5, 7, DType::kF32),   shape(3, 1, 1, 33, 64, DType::kF32),
    shape(8, 4, 2, 12, 24, DType::kF32), shape(101, 1, 1, 3, 4, DType::kF32), shape(17, 17, 17, 4, 6, DType::kF32),
};
const std::vector<std::vector<SourceShape>> kSources = {
    {{}},
    {{.window = 20}, {.window = 20, .delay = 20}},
    {{.window = 9}, {.window = 0, .delay = 70}, {.listed = true}},
};

TEST(SequenceAttentionBackward, OracleIsTheDerivative) {
  Random random(51);
  const std::array<std::int64_t, 3> lengths = {7, 0, 5};
  for (const bool with_prefixes : {false, true}) {
    for (const Attention& attention : {shape(4, 2, 2, 3, 2, DType::kF32), shape(4, 4, 2, 2, 3, DType::kF32)}) {
      const std::vector<SourceShape> one = {{.window = 4}};
      const std::vector<SourceShape> three = {{.window = 3}, {.window = 2, .delay = 2}, {.listed = true}};
      const SequenceCase c(attention, with_prefixes ? one : three, lengths, random, with_prefixes);
      tests::DoubleSources in(c);
      const auto loss = [&] {
        Expected out(c.rows, c.upstream.columns());
        reference::sequence_attention(c.attention, in.views, c.all(), out.out(), {});
        return tests::weighted_sum(out, c.upstream);
      };
      const OracleGradients gradients(c);
      for (std::size_t s = 0; s < c.sources.size(); ++s) {
        SCOPED_TRACE(testing::Message() << "source " << s);
        tests::expect_derivative(in.q[s], gradients.q[s], loss);
        tests::expect_derivative(in.k[s], gradients.k[s], loss);
        tests::expect_derivative(in.v[s], gradients.v[s], loss);
      }
    }
  }
}

TEST(SequenceAttentionBackward, MatchesTheOracleAtEveryLength) {
  on_every_target([] {
    ThreadPool pool(2);
    Random random(52);
    for (const std::int64_t length : {0, 1, 2, 15, 16, 17, 47, 48, 49, 63, 64, 65, 129, 200}) {
      SCOPED_TRACE(length);
      const std::array<std::int64_t, 2> lengths = {length, 20};
      for (const SourceShape source : {SourceShape{}, SourceShape{.window = 1}, SourceShape{.window = 37}}) {
        expect_matches_oracle(pool, SequenceCase(kShapes[1], {&source, 1}, lengths, random));
      }
    }
  });
}

TEST(SequenceAttentionBackward, MatchesTheOracleForAllHeadsSourcesAndPrefixes) {
  on_every_target([] {
    ThreadPool pool(2);
    Random random(53);
    const std::array<std::int64_t, 4> lengths = {150, 0, 1, 70};
    for (const Attention& attention : kShapes) {
      SCOPED_TRACE(testing::Message() << attention.query_heads << " heads");
      for (const std::vector<SourceShape>& sources : kSources) {
        expect_matches_oracle(pool, SequenceCase(attention, sources, lengths, random));
      }
      const std::array<SourceShape, 1> source = {{{.window = 30}}};
      expect_matches_oracle(pool, SequenceCase(attention, source, lengths, random, true));
    }
  });
}

// More rows than a task takes at once.
TEST(SequenceAttentionBackward, MatchesTheOracleWhereATaskHasManyRows) {
  ThreadPool pool(2);
  Random random(56);
  const std::array<std::int64_t, 1> lengths = {450};
  const std::vector<SourceShape> sources = {{}, {.listed = true}};
  expect_matches_oracle(pool, SequenceCase(shape(160, 16, 16, 2, 2, DType::kF32), sources, lengths, random));
}

TEST(SequenceAttentionBackward, ThreadsChangeNoBit) {
  on_every_target([] {
    Random random(54);
    const std::array<std::int64_t, 3> lengths = {230, 1, 64};
    for (const Attention& attention : kShapes) {
      SequenceCase c(attention, kSources.back(), lengths, random);
      ThreadPool one(1), two(2), three(3);
      const Gradients first = run(one, c);
      for (ThreadPool* pool : {&two, &three}) {
        const Gradients other = run(*pool, c);
        for (std::size_t s = 0; s < c.sources.size(); ++s) {
          tests::expect_same_bits(first.q[s], other.q[s]);
          tests::expect_same_bits(first.k[s], other.k[s]);
          tests::expect_same_bits(first.v[s], other.v[s]);
        }
      }
    }
  });
}

// One matrix of gradients for the queries of two sources, and none for the rest: the sum, and the same bits for what
// there is.
TEST(SequenceAttentionBackward, GradientsMayBeSharedOrAbsent) {
  Random random(55);
  ThreadPool pool(2);
  const std::array<std::int64_t, 2> lengths = {140, 30};
  for (const Attention& attention : {kShapes[2], kShapes[5]}) {  // with partial sums, and without
    const SequenceCase c(attention, kSources.back(), lengths, random);
    const Gradients apart = run(pool, c);
    Matrix out(c.rows, c.upstream.columns()), lse(c.rows, attention.query_heads);
    sequence_attention(pool, attention, c.views(), c.all(), out.out(), lse.out());
    Gradients shared(c);
    const std::array<SequenceAttentionGradients<float>, 3> gradients = {{{shared.q[0].out(), shared.k[0].out(), {}},
                                                                         {{}, {}, shared.v[1].out()},
                                                                         {shared.q[0].out(), shared.k[0].out(), {}}}};
    sequence_attention_backward(pool, attention, c.views(), c.all(), out.in(), lse.in(), c.upstream.in(), gradients);
    const SequenceBounds bounds(c);
    for (const SequenceRows& sequence : c.sequences) {
      for (std::int64_t r = sequence.first_row; r < sequence.first_row + sequence.rows; ++r) {
        for (std::int64_t i = 0; i < shared.q[0].columns(); ++i) {
          ASSERT_NEAR(shared.q[0].at(r, i), double{apart.q[0].at(r, i)} + double{apart.q[2].at(r, i)},
                      bounds.q[0].at(r, i) + bounds.q[2].at(r, i));
        }
        for (std::int64_t i = 0; i < shared.k[0].columns(); ++i) {
          ASSERT_NEAR(shared.k[0].at(r, i), double{apart.k[0].at(r, i)} + double{apart.k[2].at(r, i)},
                      bounds.k[0].at(r, i) + bounds.k[2].at(r, i) + tests::kTiny);
        }
        for (std::int64_t i = 0; i < shared.v[1].columns(); ++i) {
          ASSERT_EQ(shared.v[1].at(r, i), apart.v[1].at(r, i));
        }
      }
    }
  }
}

}  // namespace
}  // namespace krait::kernels
