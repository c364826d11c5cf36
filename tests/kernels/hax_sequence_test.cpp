#include "krait/kernels/hax_sequence.h"

#include <array>
#include <cmath>

#include "krait/kernels/hax_sequence_backward.h"
#include "krait/kernels/reference/hax_sequence.h"
#include "tests/kernels/derivative_testing.h"
#include "tests/kernels/hax_testing.h"

namespace krait::kernels {
namespace {

using tests::Expected;
using tests::HaxCase;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;

// Which rows each row reads.
class TokenLists {
 public:
  TokenLists(std::int64_t rows, std::int64_t most) : rows_(rows), columns_(1 + most) {
    values_.assign(static_cast<std::size_t>(rows * columns_), -1);
  }
  Rows<std::int32_t> out() { return {values_.data(), rows_, columns_}; }
  Rows<const std::int32_t> in() const { return {values_.data(), rows_, columns_}; }
  bool operator==(const TokenLists&) const = default;

 private:
  std::int64_t rows_, columns_;
  std::vector<std::int32_t> values_;
};

TokenLists choose(ThreadPool& pool, const HaxCase& c, std::span<const SequenceRows> sequences) {
  TokenLists lists(c.v.rows(), c.hax.recent + c.hax.selected);
  const HaxInputs in = c.inputs();
  hax_choose_tokens(pool, c.hax, in.centred_q, in.centred_k, in.scores, sequences, lists.out());
  return lists;
}

// A batch, its choice, and the same numbers in double.
struct Batch {
  const HaxCase& c;
  std::vector<SequenceRows> sequences;
  TokenLists tokens;
  Expected q, k, v, scale, upstream_double;
  Matrix upstream;

  Batch(ThreadPool& pool, const HaxCase& of, std::vector<SequenceRows> rows, Random& random)
      : c(of),
        sequences(std::move(rows)),
        tokens(choose(pool, c, sequences)),
        q(tests::in_double(c.q)),
        k(tests::in_double(c.k)),
        v(tests::in_double(c.v)),
        scale(tests::in_double(c.scale)),
        upstream_double(0, 0),
        upstream(c.v.rows(), c.v.columns(), 1, 1) {
    upstream.fill_normal(random);
    upstream_double = tests::in_double(upstream);
  }
  HaxReads<float> reads() const {
    return {.q = c.q.in(), .k = c.k.in(), .v = c.v.in(), .output_scale = c.scale.data(), .tokens = tokens.in()};
  }
  HaxReads<double> reads_double() {
    return {.q = q.out(), .k = k.out(), .v = v.out(), .output_scale = scale.out().data, .tokens = tokens.in()};
  }
};

struct Budget {
  std::int64_t recent, selected, hashes;
};
const std::vector<Budget> kBudgets = {{3, 4, 2}, {1, 0, 1}, {0, 1, 1}, {17, 16, 3}, {0, 5, 1}, {33, 0, 2}, {2, 9, 8}};

HaxAttention sizes(const Budget& budget, std::int64_t key_width, std::int64_t value_width) {
  return {.key_width = key_width,
          .value_width = value_width,
          .hashes = budget.hashes,
          .recent = budget.recent,
          .selected = budget.selected};
}

TEST(HaxSequence, ChoosesWhatTheDefinitionSays) {
  on_every_target([] {
    Random random(61);
    ThreadPool pool(2);
    for (const Budget& budget : kBudgets) {
      const HaxCase c(90, sizes(budget, 5, 3), random);
      // The second sequence's rows, by the oracle, are those of a case that begins there.
      const std::array<SequenceRows, 3> sequences = {{{0, 50}, {50, 0}, {53, 37}}};
      const TokenLists lists = choose(pool, c, sequences);
      for (const SequenceRows& sequence : sequences) {
        HaxInputs in = c.inputs();
        for (RowsIn* rows : {&in.q, &in.k, &in.centred_q, &in.centred_k, &in.scores, &in.v}) {
          *rows = rows->slice_rows(sequence.first_row, sequence.rows);
        }
        for (std::int64_t t = 0; t < sequence.rows; ++t) {
          const std::int32_t* const list = lists.in().row(sequence.first_row + t);
          std::vector<std::int64_t> actual(list + 1, list + 1 + list[0]);
          for (std::int64_t& token : actual) token -= sequence.first_row;
          std::ranges::sort(actual);
          ASSERT_EQ(actual, reference::hax_tokens(c.hax, in, t)) << "row " << t;
        }
      }
    }
  });
}

TEST(HaxSequence, ForwardMatchesBothOraclesAndInference) {
  on_every_target([] {
    Random random(62);
    ThreadPool pool(2);
    for (const Budget& budget : kBudgets) {
      for (const std::int64_t width : tests::kLengths) {
        for (const std::int64_t rows : {0, 1, 31, 32, 33, 70}) {
          SCOPED_TRACE(testing::Message() << "E " << width << ", " << rows << " rows");
          const HaxCase c(rows, sizes(budget, 6, width), random);
          Batch batch(pool, c, {{0, rows}}, random);
          Matrix y(rows, width, 3, 1);
          y.fill_normal(random);
          Matrix inferred = y;
          const Expected bound = bound_of(c, y);
          Expected expected = tests::in_double(y), other = expected;
          reference::hax_sequence(batch.reads_double(), batch.sequences, expected.out());
          reference::hax_attention(c.hax, c.inputs(), other.out());
          hax_sequence(pool, batch.reads(), batch.sequences, y.out());
          c.run(pool, inferred);
          y.check_gaps();
          for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t e = 0; e < width; ++e) {
              ASSERT_NEAR(expected.at(r, e), other.at(r, e), 1e-12);
              ASSERT_NEAR(y.at(r, e), expected.at(r, e), bound.at(r, e));
              ASSERT_NEAR(y.at(r, e), inferred.at(r, e), 2.0 * bound.at(r, e));
            }
          }
        }
      }
    }
  });
}

struct OracleGradients {
  Expected q, k, v, scale;
  explicit OracleGradients(Batch& batch)
      : q(batch.c.q.rows(), batch.c.q.columns()),
        k(batch.c.q.rows(), batch.c.q.columns()),
        v(batch.c.v.rows(), batch.c.v.columns()),
        scale(1, batch.c.v.columns()) {
    reference::hax_sequence_backward(batch.reads_double(), batch.sequences, batch.upstream_double.out(),
                                     {q.out(), k.out(), v.out(), scale.out().data});
  }
};

TEST(HaxSequence, OracleGradientsAreTheDerivative) {
  Random random(63);
  ThreadPool pool(1);
  for (const Budget& budget : {Budget{3, 4, 2}, {2, 0, 1}, {0, 3, 1}}) {
    const HaxCase c(17, sizes(budget, 3, 5), random);
    Batch batch(pool, c, {{0, 9}, {9, 0}, {10, 7}}, random);
    const auto loss = [&] {
      Expected y(17, 5);
      reference::hax_sequence(batch.reads_double(), batch.sequences, y.out());
      return tests::weighted_sum(y, batch.upstream);
    };
    const OracleGradients gradients(batch);
    tests::expect_derivative(batch.q, gradients.q, loss);
    tests::expect_derivative(batch.k, gradients.k, loss);
    tests::expect_derivative(batch.v, gradients.v, loss);
    tests::expect_derivative(batch.scale, gradients.scale, loss);
  }
}

struct Gradients {
  Matrix q, k, v, scale;
  Gradients(ThreadPool& pool, const Batch& batch)
      : q(batch.c.q.rows(), batch.c.q.columns(), 1, 1),
        k(batch.c.q.rows(), batch.c.q.columns(), 2),
        v(batch.c.v.rows(), batch.c.v.columns(), 3, 1),
        scale(1, batch.c.v.columns()) {
    for (Matrix* written : {&q, &k, &v}) written->fill([] { return 7.0; });
    hax_sequence_backward(pool, batch.reads(), batch.sequences, batch.upstream.in(),
                          {q.out(), k.out(), v.out(), scale.data()});
    for (const Matrix* written : {&q, &k, &v}) written->check_gaps();
  }
};

// Weights are off by a factor as bound_of() says, e_w; with G_j = sum |E dy v_j|, products with v are off by E + 2
// roundings of it, and so scores' gradients p_j (g_j - sum p g) by p_j (G_j + sum p G) (2 e_w + (n + E + 6) u). A token
// that m rows read collects m such, and E what all tokens have.
struct GradientBounds {
  Expected q, k, v, scale;
  explicit GradientBounds(const Batch& batch)
      : q(batch.c.q.rows(), batch.c.q.columns()),
        k(batch.c.q.rows(), batch.c.q.columns()),
        v(batch.c.v.rows(), batch.c.v.columns()),
        scale(1, batch.c.v.columns()) {
    const HaxCase& c = batch.c;
    std::vector<double> readers(static_cast<std::size_t>(c.v.rows()));
    for_rows(batch, [&](std::int64_t, auto tokens) {
      for (const std::int32_t j : tokens) readers[static_cast<std::size_t>(j)] += 1.0;
    });
    for_rows(batch, [&](std::int64_t t, auto tokens) {
      const double n = static_cast<double>(tokens.size()), width = static_cast<double>(c.v.columns());
      std::vector<double> weights, products;
      double size = 0.0, sum = 0.0, mean = 0.0;
      for (const std::int32_t j : tokens) {
        double product = 0.0, absolute = 0.0, with_value = 0.0;
        for (std::int64_t i = 0; i < c.q.columns(); ++i) {
          product += double{c.q.at(t, i)} * double{c.k.at(j, i)};
          absolute += std::fabs(double{c.q.at(t, i)} * double{c.k.at(j, i)});
        }
        for (std::int64_t e = 0; e < c.v.columns(); ++e) {
          with_value += std::fabs(double{c.scale.at(0, e)} * double{batch.upstream.at(t, e)} * double{c.v.at(j, e)});
        }
        size = std::max(size, absolute);
        weights.push_back(std::exp(product));
        sum += weights.back();
        products.push_back(with_value);
      }
      for (std::size_t i = 0; i < weights.size(); ++i) mean += (weights[i] /= sum) * products[i];
      const double key_width = static_cast<double>(c.q.columns());
      const double e_w = 1.01 * kRounding * (2.0 * (key_width + 1.0) * size + 2.0 * size + 2.0 * n + 8.0);
      const double e_s = 2.0 * e_w + (n + width + 6.0) * kRounding;
      for (std::size_t i = 0; i < tokens.size(); ++i) {
        const std::int32_t j = tokens[i];
        const double m = readers[static_cast<std::size_t>(j)] + 3.0;
        const double score = weights[i] * (products[i] + mean);
        for (std::int64_t x = 0; x < c.q.columns(); ++x) {
          q.out().row(t)[x] += score * std::fabs(double{c.k.at(j, x)}) * (e_s + (n + 3.0) * kRounding);
          k.out().row(j)[x] += score * std::fabs(double{c.q.at(t, x)}) * (e_s + m * kRounding);
        }
        for (std::int64_t e = 0; e < c.v.columns(); ++e) {
          const double share = weights[i] * std::fabs(double{batch.upstream.at(t, e)});
          v.out().row(j)[e] += share * std::fabs(double{c.scale.at(0, e)}) * (e_w + (m + 1.0) * kRounding);
          scale.out().row(0)[e] +=
              share * std::fabs(double{c.v.at(j, e)}) * (e_w + (m + static_cast<double>(c.v.rows()) + 2.0) * kRounding);
        }
      }
    });
  }

  template <class Work>
  static void for_rows(const Batch& batch, Work&& work) {
    for (const SequenceRows& sequence : batch.sequences) {
      for (std::int64_t t = sequence.first_row; t < sequence.first_row + sequence.rows; ++t) {
        const std::int32_t* const list = batch.tokens.in().row(t);
        work(t, std::span<const std::int32_t>(list + 1, static_cast<std::size_t>(list[0])));
      }
    }
  }
};

TEST(HaxSequence, BackwardMatchesTheOracle) {
  on_every_target([] {
    Random random(64);
    ThreadPool pool(2);
    for (const Budget& budget : kBudgets) {
      for (const std::int64_t width : {1, 5, 16, 34, 300}) {
        const HaxCase c(90, sizes(budget, width == 5 ? 16 : 7, width), random);
        // Rows 50 to 53 belong to nobody.
        Batch batch(pool, c, {{0, 50}, {53, 0}, {53, 1}, {54, 36}}, random);
        const Gradients actual(pool, batch);
        const OracleGradients expected(batch);
        const GradientBounds bounds(batch);
        const auto compare = [&](const Matrix& left, const Expected& right, const Expected& bound) {
          for (std::int64_t r = 0; r < left.rows(); ++r) {
            for (std::int64_t i = 0; i < left.columns(); ++i) {
              if (left.rows() > 1 && r >= 50 && r < 53) {
                ASSERT_EQ(left.at(r, i), 7.0F);
              } else {
                ASSERT_NEAR(left.at(r, i), right.at(r, i), bound.at(r, i) + tests::kTiny) << "row " << r << ", " << i;
              }
            }
          }
        };
        compare(actual.q, expected.q, bounds.q);
        compare(actual.k, expected.k, bounds.k);
        compare(actual.v, expected.v, bounds.v);
        compare(actual.scale, expected.scale, bounds.scale);
      }
    }
  });
}

TEST(HaxSequence, ThreadsChangeNoBit) {
  on_every_target([] {
    Random random(65);
    const HaxCase c(200, sizes({4, 4, 2}, 8, 150), random);
    ThreadPool one(1), three(3);
    const Batch first(one, c, {{0, 130}, {130, 70}}, random), second(three, c, {{0, 130}, {130, 70}}, random);
    EXPECT_EQ(first.tokens, second.tokens);
    Matrix y(200, 150), other(200, 150);
    hax_sequence(one, first.reads(), first.sequences, y.out());
    hax_sequence(three, first.reads(), first.sequences, other.out());
    tests::expect_same_bits(y, other);
    const Gradients left(one, first), right(three, first);
    tests::expect_same_bits(left.q, right.q);
    tests::expect_same_bits(left.k, right.k);
    tests::expect_same_bits(left.v, right.v);
    tests::expect_same_bits(left.scale, right.scale);
  });
}

}  // namespace
}  // namespace krait::kernels
