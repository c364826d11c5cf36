#include "krait/kernels/scan_diagonal.h"

#include <algorithm>
#include <cmath>

#include "krait/kernels/reference/scan_diagonal.h"
#include "tests/kernels/double_matrix.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;
using tests::WideMatrix;

// Decays as S5 and the LRU have them: sizes between 0.8 and 0.999, any angle.
struct Case {
  std::int64_t rows, states;
  bool of_rows;
  Matrix u, a, initial, dh, dfinal;

  Case(std::int64_t row_count, std::int64_t state_count, bool decays_of_rows, Random& random)
      : rows(row_count),
        states(state_count),
        of_rows(decays_of_rows),
        u(rows, 2 * states, 3, 1),
        a(of_rows ? rows : 1, 2 * states, of_rows ? 5 : 0),
        initial(1, 2 * states),
        dh(rows, 2 * states, 1, 1),
        dfinal(1, 2 * states) {
    for (Matrix* m : {&u, &initial, &dh, &dfinal}) m->fill_normal(random);
    for (std::int64_t r = 0; r < a.rows(); ++r) {
      for (std::int64_t n = 0; n < states; ++n) {
        const double size = 0.8 + 0.199 * random.uniform(), angle = 6.283 * random.uniform();
        a.at(r, n) = static_cast<float>(size * std::cos(angle));
        a.at(r, states + n) = static_cast<float>(size * std::sin(angle));
      }
    }
  }
  DiagonalScan scan() const {
    DiagonalScan result{.states = states, .a = nullptr, .a_rows = {}};
    if (of_rows) {
      result.a_rows = a.in();
    } else {
      result.a = a.data();
    }
    return result;
  }
};

struct Oracle {
  WideMatrix u, a, initial, dh, dfinal;
  DiagonalScanOf<double> scan;
  WideMatrix h, last, du, da, dinitial;
  SequenceRows sequence;

  explicit Oracle(const Case& c)
      : u(c.u),
        a(c.a),
        initial(c.initial),
        dh(c.dh),
        dfinal(c.dfinal),
        h(c.u),
        last(c.initial),
        du(c.u),
        da(c.a),
        dinitial(c.initial),
        sequence{.first_row = 0, .rows = c.rows, .state = nullptr} {
    scan = {.states = c.states, .a = c.of_rows ? nullptr : a.data(), .a_rows = {}};
    if (c.of_rows) scan.a_rows = a.in();
  }
  void forward() {
    last = initial;
    double* state = last.data();
    reference::diagonal_scan(scan, u.in(), {&sequence, 1}, {&state, 1}, h.out());
  }
  void backward() {
    da.clear();
    const double* state = initial.data();
    const SequenceGradientsOf<double> states{.final_state = dfinal.data(), .initial_state = dinitial.data()};
    reference::diagonal_scan_backward(scan, h.in(), dh.in(), {&sequence, 1}, {&state, 1}, {&states, 1},
                                      {.u = du.out(),
                                       .a = scan.a != nullptr ? da.data() : nullptr,
                                       .a_rows = scan.a != nullptr ? Rows<double>() : da.out()});
  }
};

double size_at(const WideMatrix& m, std::int64_t row, std::int64_t states, std::int64_t n) {
  return std::hypot(m.at(row, n), m.at(row, states + n));
}
double decay_at(const Oracle& o, std::int64_t row, std::int64_t n) {
  return size_at(o.a, o.scan.a != nullptr ? 0 : row, o.scan.states, n);
}

// A step rounds each part of a h + u twice, on terms below 2 (|a| |h| + |u|): 4 u of H = |a| H + |u|, the same
// recurrence on absolute values. What came before is wrong by |a| times its own error, so errors obey E = |a| E + 4 u
// H.
struct Errors {
  double size, error = 0.0;
  void step(double decay, double input) {
    size = decay * size + input;
    error = decay * error + 4.0 * kRounding * size;
  }
};

void expect_matches_oracle(ThreadPool& pool, const Case& c) {
  Oracle o(c);
  o.forward();
  Matrix h(c.rows, 2 * c.states, 2, 1), state = c.initial;
  const SequenceRows sequence{.first_row = 0, .rows = c.rows, .state = state.bytes()};
  diagonal_scan(pool, c.scan(), c.u.in(), {&sequence, 1}, h.out());
  h.check_gaps();
  for (std::int64_t n = 0; n < c.states; ++n) {
    Errors errors{.size = size_at(o.initial, 0, c.states, n)};
    for (std::int64_t t = 0; t < c.rows; ++t) {
      errors.step(decay_at(o, t, n), size_at(o.u, t, c.states, n));
      for (const std::int64_t part : {n, c.states + n}) {
        ASSERT_NEAR(h.at(t, part), o.h.at(t, part), errors.error) << "row " << t << ", part " << part;
      }
    }
    for (const std::int64_t part : {n, c.states + n}) {
      ASSERT_NEAR(state.at(0, part), o.last.at(0, part), errors.error) << "state, part " << part;
    }
  }

  // Backward of the rows that the kernel wrote, so that only its own errors count.
  o.h = WideMatrix(h);
  o.backward();
  Matrix du(c.rows, 2 * c.states, 1), da(c.a.rows(), 2 * c.states, 2), dinitial(1, 2 * c.states);
  Matrix initial = c.initial;
  const SequenceRows before{.first_row = 0, .rows = c.rows, .state = initial.bytes()};
  const SequenceGradients states{.final_state = c.dfinal.data(), .initial_state = dinitial.data()};
  diagonal_scan_backward(
      pool, c.scan(), h.in(), c.dh.in(), {&before, 1}, {&states, 1},
      {.u = du.out(), .a = c.of_rows ? nullptr : da.data(), .a_rows = c.of_rows ? da.out() : RowsOut()});
  du.check_gaps();
  for (std::int64_t n = 0; n < c.states; ++n) {
    Errors errors{.size = size_at(o.dfinal, 0, c.states, n)};
    double sum = 0.0, sum_error = 0.0;
    for (std::int64_t t = c.rows - 1; t >= 0; --t) {
      errors.step(t + 1 < c.rows ? decay_at(o, t + 1, n) : 1.0, size_at(o.dh, t, c.states, n));
      const double held = t == 0 ? size_at(o.initial, 0, c.states, n) : size_at(o.h, t - 1, c.states, n);
      for (const std::int64_t part : {n, c.states + n}) {
        ASSERT_NEAR(du.at(t, part), o.du.at(t, part), errors.error) << "du, row " << t << ", part " << part;
        if (c.of_rows) {
          ASSERT_NEAR(da.at(t, part), o.da.at(t, part), held * (errors.error + 4.0 * kRounding * errors.size))
              << "da, row " << t << ", part " << part;
        }
      }
      sum += 2.0 * held * errors.size;
      sum_error += held * errors.error;
    }
    for (const std::int64_t part : {n, c.states + n}) {
      // 32 products in a chain, then a chain of those sums.
      const double roundings = 2.0 * 32.0 + static_cast<double>(c.rows) / 32.0 + 3.0;
      if (!c.of_rows) {
        ASSERT_NEAR(da.at(0, part), o.da.at(0, part), sum_error + roundings * kRounding * sum + tests::kTiny)
            << "da, part " << part;
      }
      ASSERT_NEAR(dinitial.at(0, part), o.dinitial.at(0, part), errors.error + 4.0 * kRounding * errors.size)
          << "state's gradient, part " << part;
    }
  }
}

TEST(ScanDiagonal, MatchesOracleAtEveryLength) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t states : tests::kLengths) {
      for (const std::int64_t rows : {0, 1, 2, 31, 32, 33, 100}) {
        for (const bool of_rows : {false, true}) {
          if (rows == 0 && of_rows) continue;
          SCOPED_TRACE(::testing::Message() << states << " states, " << rows << " rows");
          expect_matches_oracle(pool, Case(rows, states, of_rows, random));
        }
      }
    }
  });
}

TEST(ScanDiagonal, ACutChangesNoBit) {
  on_every_target([&] {
    Random random(2);
    for (const bool of_rows : {false, true}) {
      const Case c(21, 37, of_rows, random);
      tests::expect_a_cut_changes_no_bit(21, 74, c.initial, [&](ThreadPool& pool, SequenceRows sequence, Matrix& h) {
        diagonal_scan(pool, c.scan(), c.u.in(), {&sequence, 1}, h.out());
      });
    }
  });
}

TEST(ScanDiagonal, SequencesOfABatchAndThreadsDoNotMatter) {
  on_every_target([&] {
    Random random(3);
    const Case c(60, 70, false, random);
    tests::expect_sequences_and_threads_do_not_matter(
        140, c.initial, [&](ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& h) {
          diagonal_scan(pool, c.scan(), c.u.in(), sequences, h.out());
        });
    const std::vector<SequenceRows> sequences = {{.first_row = 0, .rows = 40, .state = nullptr},
                                                 {.first_row = 40, .rows = 20, .state = nullptr}};
    Matrix first_du, first_da;
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      Matrix du(60, 140), da(1, 140);
      diagonal_scan_backward(pool, c.scan(), c.u.in(), c.dh.in(), sequences, {},
                             {.u = du.out(), .a = da.data(), .a_rows = {}});
      if (threads == 1) first_du = du, first_da = da;
      tests::expect_same_bits(du, first_du);
      tests::expect_same_bits(da, first_da);
    }
  });
}

TEST(ScanDiagonal, ResultsMayStandWhereInputsStood) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(4);
    Case c(33, 19, false, random);
    const SequenceRows sequence{.first_row = 0, .rows = 33, .state = nullptr};
    Matrix h(33, 38, 3, 1), du(33, 38, 1, 1);
    diagonal_scan(pool, c.scan(), c.u.in(), {&sequence, 1}, h.out());
    diagonal_scan_backward(pool, c.scan(), h.in(), c.dh.in(), {&sequence, 1}, {},
                           {.u = du.out(), .a = nullptr, .a_rows = {}});
    diagonal_scan(pool, c.scan(), c.u.in(), {&sequence, 1}, c.u.out());
    diagonal_scan_backward(pool, c.scan(), h.in(), c.dh.in(), {&sequence, 1}, {},
                           {.u = c.dh.out(), .a = nullptr, .a_rows = {}});
    tests::expect_same_bits(c.u, h);
    tests::expect_same_bits(c.dh, du);
  });
}

// The loss is linear in u and the initial state, and a polynomial in a whose third derivative is about T^3 = 1e3:
// a step of 1e-5 leaves 1e-8 of that, and 1e-11 of rounding.
TEST(ScanDiagonal, ReferenceGradientsAreDifferencesOfTheLoss) {
  Random random(5);
  for (const bool of_rows : {false, true}) {
    const Case c(11, 3, of_rows, random);
    Oracle o(c);
    const auto loss = [&] {
      o.forward();
      return tests::dot(o.dh, o.h) + tests::dot(o.dfinal, o.last);
    };
    loss();
    o.backward();
    tests::expect_gradient_is_difference(o.u, o.du, 1e-5, 1e-8, loss);
    tests::expect_gradient_is_difference(o.a, o.da, 1e-5, 1e-7, loss);
    tests::expect_gradient_is_difference(o.initial, o.dinitial, 1e-5, 1e-8, loss);
  }
}

}  // namespace
}  // namespace krait::kernels
