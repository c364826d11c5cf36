#include "krait/kernels/scan_rwkv7.h"

#include "krait/kernels/reference/rwkv7.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::Expected;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;

// Inputs as the gates make them: decays below 1, kappa of length 1 in every head, b a fraction of it.
struct Case {
  Matrix r, w, k, v, kappa, b, state;
  Rwkv7Scan scan;

  // `rate`: the largest in-context learning rate.
  Case(std::int64_t rows, std::int64_t heads, std::int64_t width, double rate, Random& random)
      : r(rows, heads * width, 1, 1),
        w(rows, heads * width, 2),
        k(rows, heads * width, 3),
        v(rows, heads * width, 5, 1),
        kappa(rows, heads * width),
        b(rows, heads * width, 0, 1),
        state(heads * width, width) {
    r.fill_normal(random);
    w.fill_uniform(random, 0.55, 0.85);
    k.fill_normal(random);
    v.fill_normal(random);
    kappa.fill_normal(random);
    state.fill_normal(random);
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t first = 0; first < heads * width; first += width) {
        double squares = 0.0;
        for (std::int64_t i = first; i < first + width; ++i) squares += double{kappa.at(row, i)} * kappa.at(row, i);
        for (std::int64_t i = first; i < first + width; ++i) {
          kappa.at(row, i) = static_cast<float>(kappa.at(row, i) / std::sqrt(squares));
          b.at(row, i) = static_cast<float>(kappa.at(row, i) * rate * random.uniform());
        }
      }
    }
    scan = {.heads = heads, .head_width = width};
  }

  Rwkv7ScanInputs inputs() const {
    return {.r = r.in(), .w = w.in(), .k = k.in(), .v = v.in(), .kappa = kappa.in(), .b = b.in()};
  }
  void run(ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& y) const {
    rwkv7_scan(pool, scan, inputs(), sequences, y.out());
  }
};

// The oracle beside a bound of the error of every element, carried through the recurrence with absolute values: an
// error E of S becomes E diag(w) + (E |kappa|) |b|^T; a step adds for S kappa the roundings of a sum of P products
// (and of the sums before, E |kappa|), and for S itself three roundings of each of its three terms. Products of two
// errors are covered by the hundredth on top.
struct Oracle {
  Expected y, y_bound;
  std::vector<double> state, state_bound;

  explicit Oracle(const Case& c)
      : y(c.r.rows(), c.r.columns()),
        y_bound(c.r.rows(), c.r.columns()),
        state(c.state.data(), c.state.data() + c.state.rows() * c.state.columns()),
        state_bound(state.size(), 0.0) {
    const std::int64_t width = c.scan.head_width;
    const double sum_roundings = kRounding * (static_cast<double>(width) + 2.0);
    for (std::int64_t t = 0; t < c.r.rows(); ++t) {
      const std::vector<double> before = state;
      const Rwkv7ScanInputs all = c.inputs();
      const Rwkv7ScanInputs row = {.r = all.r.slice_rows(t, 1),
                                   .w = all.w.slice_rows(t, 1),
                                   .k = all.k.slice_rows(t, 1),
                                   .v = all.v.slice_rows(t, 1),
                                   .kappa = all.kappa.slice_rows(t, 1),
                                   .b = all.b.slice_rows(t, 1)};
      reference::rwkv7_scan(c.scan, row, state, y.out().slice_rows(t, 1));
      for (std::int64_t h = 0; h < c.scan.heads; ++h) {
        for (std::int64_t value = 0; value < width; ++value) {
          const auto at = [&](std::int64_t key) { return static_cast<std::size_t>((h * width + key) * width + value); };
          const auto size = [&](const Matrix& m, std::int64_t i) { return std::fabs(double{m.at(t, h * width + i)}); };
          double removed = 0.0, removed_bound = 0.0;
          for (std::int64_t key = 0; key < width; ++key) {
            removed += std::fabs(before[at(key)]) * size(c.kappa, key);
            removed_bound += state_bound[at(key)] * size(c.kappa, key);
          }
          removed_bound += sum_roundings * removed;
          double bound = 0.0;
          for (std::int64_t key = 0; key < width; ++key) {
            const double terms = std::fabs(before[at(key)]) * size(c.w, key) + removed * size(c.b, key) +
                                 size(c.v, value) * size(c.k, key);
            double& error = state_bound[at(key)];
            error = 1.01 * (error * size(c.w, key) + removed_bound * size(c.b, key) + 3.0 * kRounding * terms);
            bound += (error + sum_roundings * std::fabs(state[at(key)])) * size(c.r, key);
          }
          y_bound.out().row(t)[h * width + value] = 1.01 * bound;
        }
      }
    }
  }

  void expect(const Matrix& actual, const Matrix& actual_state) const {
    tests::expect_near(actual, y, [&](auto r, auto e) { return y_bound.at(r, e); });
    for (std::size_t i = 0; i < state.size(); ++i) {
      ASSERT_NEAR(actual_state.data()[i], state[i], state_bound[i] + tests::kTiny) << "state, at " << i;
    }
  }
};

void expect_matches_oracle(ThreadPool& pool, const Case& c) {
  const Oracle oracle(c);
  Matrix y(c.r.rows(), c.r.columns(), 3, 1), state = c.state;
  const SequenceRows sequence{.first_row = 0, .rows = c.r.rows(), .state = state.bytes()};
  c.run(pool, {&sequence, 1}, y);
  oracle.expect(y, state);
  y.check_gaps();
}

TEST(ScanRwkv7, MatchesOracleAtEveryHeadWidth) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t width : tests::kLengths) {
      for (const std::int64_t rows : {0, 1, 2, 7}) {
        SCOPED_TRACE(::testing::Message() << "P " << width << ", " << rows << " rows");
        expect_matches_oracle(pool, Case(rows, 2, width, 1.0, random));
      }
    }
  });
}

TEST(ScanRwkv7, MatchesOracleOverLongSequences) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(2);
    for (const std::int64_t width : {16, 37, 64}) expect_matches_oracle(pool, Case(150, 3, width, 0.2, random));
  });
}

TEST(ScanRwkv7, SplitAnywhereGivesTheSameBits) {
  on_every_target([&] {
    Random random(3);
    const Case c(23, 3, 20, 1.0, random);
    tests::expect_a_cut_changes_no_bit(23, 60, c.state, [&](ThreadPool& pool, const SequenceRows& sequence, Matrix& y) {
      c.run(pool, {&sequence, 1}, y);
    });
  });
}

TEST(ScanRwkv7, SequencesOfABatchAndThreadsDoNotMatter) {
  on_every_target([&] {
    Random random(4);
    const Case c(60, 4, 24, 1.0, random);
    tests::expect_sequences_and_threads_do_not_matter(
        96, c.state,
        [&](ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& y) { c.run(pool, sequences, y); });
  });
}

}  // namespace
}  // namespace krait::kernels
