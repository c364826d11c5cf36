#include "krait/kernels/scan_selective.h"

#include "krait/kernels/reference/scan.h"
#include "tests/kernels/kernel_testing.h"
#include "tests/kernels/stored_state.h"

namespace krait::kernels {
namespace {

using tests::Expected;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;
using tests::StoredState;

struct Case {
  Matrix x, dt, b, c, z, a, d, bias, state;
  SelectiveScan scan;
  bool gated = true;

  Case(std::int64_t rows, std::int64_t channels, std::int64_t states, std::int64_t groups, Random& random)
      : x(rows, channels, 1, 1),
        dt(rows, channels, 2),
        b(rows, groups * states, 3),
        c(rows, groups * states, 5, 1),
        z(rows, channels, 1),
        a(states, channels),
        d(1, channels),
        bias(1, channels),
        state(states, channels) {
    x.fill_normal(random);
    dt.fill_normal(random);
    b.fill_normal(random);
    c.fill_normal(random);
    z.fill_normal(random);
    a.fill_uniform(random, -16.0, -0.01);
    d.fill_normal(random);
    bias.fill_uniform(random, -6.0, -2.0);
    state.fill_normal(random);
    scan = {.channels = channels,
            .states = states,
            .groups = groups,
            .a = a.data(),
            .d = d.data(),
            .dt_bias = bias.data(),
            .dt_softplus = true};
  }

  RowsIn gate() const { return gated ? z.in() : RowsIn(); }
  void run(ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& y) const {
    selective_scan(pool, scan, x.in(), dt.in(), b.in(), c.in(), gate(), sequences, y.out());
  }
};

std::vector<double> widened(const Matrix& m) { return {m.data(), m.data() + m.rows() * m.columns()}; }

// A term dt B x enters with relative error 8 roundings (softplus 11 of its own, counted below, two products) and is
// then multiplied by k decays. A decay e^(-a) with a = |dt A| is wrong by at most (13 a + 4) roundings (dt by
// softplus' 11, the product, the argument's rounding, then exp's 2 ulp), its product by one more: k steps give
// 13 a k + 5 k. The first part is large only where the term has died: a k e^(-a k) <= 0.74 e^(-a k / 2), so
// against the oracle with half the decay and absolute inputs it counts 10, the second 5 T. The sum over N, D and the
// gate add N + 20. That oracle is `magnitude`.
double roundings(const Case& c) {
  return 5.0 * static_cast<double>(c.x.rows()) + static_cast<double>(c.scan.states) + 45.0;
}

struct Oracle {
  Expected y, magnitude;
  std::vector<double> state, state_magnitude;
  double factor;

  explicit Oracle(const Case& c)
      : y(c.x.rows(), c.x.columns()),
        magnitude(c.x.rows(), c.x.columns()),
        state(widened(c.state)),
        state_magnitude(widened(c.state.absolute())),
        factor(roundings(c) * kRounding) {
    reference::selective_scan(c.scan, c.x.in(), c.dt.in(), c.b.in(), c.c.in(), c.gate(), state, y.out());
    const Matrix x_abs = c.x.absolute(), b_abs = c.b.absolute(), c_abs = c.c.absolute(), d_abs = c.d.absolute();
    Matrix half_decay = c.a;
    half_decay.fill([i = std::int64_t{0}, &c]() mutable { return 0.5 * c.a.data()[i++]; });
    SelectiveScan majorant = c.scan;
    majorant.a = half_decay.data();
    majorant.d = c.scan.d == nullptr ? nullptr : d_abs.data();
    reference::selective_scan(majorant, x_abs.in(), c.dt.in(), b_abs.in(), c_abs.in(), RowsIn(), state_magnitude,
                              magnitude.out());
  }
};

double gate_of(const Case& c, std::int64_t r, std::int64_t e) {
  return c.gated ? std::fabs(reference::silu(c.z.at(r, e))) : 1.0;
}

void expect_matches_oracle(ThreadPool& pool, Case& c) {
  const Oracle oracle(c);
  Matrix y(c.x.rows(), c.x.columns(), 3, 1);
  const SequenceRows sequence{.first_row = 0, .rows = c.x.rows(), .state = c.state.bytes()};
  c.run(pool, {&sequence, 1}, y);
  tests::expect_near(y, oracle.y,
                     [&](auto r, auto e) { return oracle.factor * oracle.magnitude.at(r, e) * gate_of(c, r, e); });
  y.check_gaps();
  for (std::size_t i = 0; i < oracle.state.size(); ++i) {
    ASSERT_NEAR(c.state.data()[i], oracle.state[i], oracle.factor * oracle.state_magnitude[i] + tests::kTiny)
        << "state, at " << i;
  }
}

TEST(ScanSelective, MatchesOracleAtEveryLength) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t channels : tests::kLengths) {
      for (const std::int64_t states : {1, 8, 16}) {
        for (const std::int64_t rows : {0, 1, 2, 31, 33, 70}) {
          SCOPED_TRACE(::testing::Message() << channels << " channels, " << states << " states, " << rows << " rows");
          Case c(rows, channels, states, 1, random);
          expect_matches_oracle(pool, c);
        }
      }
    }
  });
}

TEST(ScanSelective, GroupsMatchOracle) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(2);
    for (const std::int64_t groups : {2, 3}) {
      for (const std::int64_t width : {1, 16, 65, 130}) {
        Case c(9, groups * width, 5, groups, random);
        expect_matches_oracle(pool, c);
      }
    }
  });
}

TEST(ScanSelective, OptionalPartsMayBeAbsent) {
  ThreadPool pool(1);
  on_every_target([&] {
    for (int absent = 0; absent < 16; ++absent) {
      Random random(3);
      Case c(12, 21, 16, 1, random);
      if (absent & 1) c.scan.d = nullptr;
      if (absent & 2) c.scan.dt_bias = nullptr;
      if (absent & 4) c.gated = false;
      if (absent & 8) {
        c.scan.dt_softplus = false;
        c.scan.dt_bias = nullptr;
        c.dt.fill_uniform(random, 0.0, 0.2);
      }
      expect_matches_oracle(pool, c);
    }
  });
}

TEST(ScanSelective, OutputMayReplaceInput) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(4);
    Case c(40, 70, 16, 1, random);
    Matrix y(40, 70), state = c.state;
    SequenceRows sequence{.first_row = 0, .rows = 40, .state = state.bytes()};
    c.run(pool, {&sequence, 1}, y);
    sequence.state = c.state.bytes();
    selective_scan(pool, c.scan, c.x.in(), c.dt.in(), c.b.in(), c.c.in(), c.z.in(), {&sequence, 1}, c.x.out());
    tests::expect_same_bits(c.x, y);
  });
}

TEST(ScanSelective, SplitAnywhereGivesSameState) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(5);
    for (const std::int64_t states : {3, 16}) {
      Case c(45, 70, states, 1, random);
      Matrix y(45, 70), whole_state = c.state;
      const SequenceRows all{.first_row = 0, .rows = 45, .state = whole_state.bytes()};
      c.run(pool, {&all, 1}, y);
      for (std::int64_t cut = 0; cut <= 45; ++cut) {
        Matrix parts(45, 70), state = c.state;
        const SequenceRows first{.first_row = 0, .rows = cut, .state = state.bytes()};
        const SequenceRows second{.first_row = cut, .rows = 45 - cut, .state = state.bytes()};
        c.run(pool, {&first, 1}, parts);
        c.run(pool, {&second, 1}, parts);
        tests::expect_same_bits(parts, y);
        tests::expect_same_bits(state, whole_state);
      }
    }
  });
}

TEST(ScanSelective, SequencesOfABatchAndThreadsDoNotMatter) {
  on_every_target([&] {
    Random random(6);
    const Case c(60, 150, 16, 2, random);
    tests::expect_sequences_and_threads_do_not_matter(
        150, c.state,
        [&](ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& y) { c.run(pool, sequences, y); });
  });
}

// A narrow state [N * G rows, E / G] encoded from c.state [N, E].
StoredState stored(DType dtype, Case& c) {
  Matrix rows(c.scan.states * c.scan.groups, c.scan.channels / c.scan.groups);
  rows.fill([from = c.state.data()]() mutable { return *from++; });
  StoredState state(dtype, rows);
  c.state.fill([from = rows.data()]() mutable { return *from++; });
  c.scan.state_dtype = dtype;
  return state;
}

// moved(row, value): what storing at cuts may have moved the state by, beside rounding to `state` itself.
template <class Moved>
void expect_stored_state(const Oracle& oracle, const StoredState& state, Moved&& moved) {
  for (std::int64_t r = 0; r < state.rows(); ++r) {
    const auto index = [&](auto i) { return static_cast<std::size_t>(r * state.width() + i); };
    const auto slack = [&](auto i) {
      return oracle.factor * oracle.state_magnitude[index(i)] + moved(r, i) + tests::kTiny;
    };
    for (std::int64_t i = 0; i < state.width(); ++i) {
      const double error = state.storing_error(i, [&](auto j) { return std::fabs(oracle.state[index(j)]) + slack(j); });
      ASSERT_NEAR(state.at(r, i), oracle.state[index(i)], slack(i) + error) << "state row " << r << ", value " << i;
    }
  }
}

TEST(ScanSelective, NarrowStatesMatchOracle) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(7);
    for (const DType dtype : tests::kStateDTypes) {
      for (const std::int64_t groups : {1, 2}) {
        for (const std::int64_t width : {1, 37, 64, 65, 130, 200}) {
          for (const std::int64_t rows : {0, 1, 2, 40}) {
            SCOPED_TRACE(::testing::Message() << to_string(dtype) << ", " << groups << " groups of " << width
                                              << " channels, " << rows << " rows");
            Case c(rows, groups * width, 6, groups, random);
            StoredState state = stored(dtype, c);
            const Oracle oracle(c);
            Matrix y(rows, groups * width);
            const SequenceRows sequence{.first_row = 0, .rows = rows, .state = state.bytes()};
            c.run(pool, {&sequence, 1}, y);
            tests::expect_near(y, oracle.y, [&](auto r, auto e) {
              return oracle.factor * oracle.magnitude.at(r, e) * gate_of(c, r, e);
            });
            if (rows > 0) expect_stored_state(oracle, state, [](auto, auto) { return 0.0; });
          }
        }
      }
    }
  });
}

TEST(ScanSelective, ZeroBytesAreTheZeroStateInEveryDType) {
  ThreadPool pool(1);
  on_every_target([&] {
    for (const std::int64_t rows : {1, 9}) {
      Random random(8);
      Case c(rows, 70, 6, 1, random);
      c.state.fill([] { return 0.0; });
      Matrix expected(rows, 70);
      const SequenceRows wide{.first_row = 0, .rows = rows, .state = c.state.bytes()};
      c.run(pool, {&wide, 1}, expected);
      for (const DType dtype : tests::kStateDTypes) {
        c.scan.state_dtype = dtype;
        StoredState state(dtype, 6, 70);
        Matrix y(rows, 70);
        const SequenceRows sequence{.first_row = 0, .rows = rows, .state = state.bytes()};
        c.run(pool, {&sequence, 1}, y);
        tests::expect_same_bits(y, expected);
      }
    }
  });
}

// A cut stores the state once more. What storing moves, decays (at most by nothing) until the end, and reaches y
// through C and the gate: both are added to the bounds of the whole.
TEST(ScanSelective, SplitAnywhereAgreesWithinOneStoring) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(9);
    for (const DType dtype : {DType::kBF16, DType::kI8}) {
      Case c(20, 70, 6, 1, random);
      const StoredState start = stored(dtype, c);
      const Oracle oracle(c);
      for (std::int64_t cut = 0; cut <= 20; ++cut) {
        StoredState state = start;
        Matrix y(20, 70);
        const SequenceRows first{.first_row = 0, .rows = cut, .state = state.bytes()};
        c.run(pool, {&first, 1}, y);
        // Values as stored at the cut bound what was stored, but for the storing itself (under one part in 64).
        const StoredState middle = state;
        const auto moved = [&](std::int64_t row, std::int64_t i) {
          return 64.0 / 63.0 * middle.storing_error(i, [&](auto j) { return std::fabs(middle.at(row, j)); });
        };
        const SequenceRows second{.first_row = cut, .rows = 20 - cut, .state = state.bytes()};
        c.run(pool, {&second, 1}, y);
        tests::expect_near(y, oracle.y, [&](auto r, auto e) {
          double bound = oracle.factor * oracle.magnitude.at(r, e);
          for (std::int64_t n = 0; r >= cut && n < 6; ++n) bound += std::fabs(c.c.at(r, n)) * moved(n, e);
          return bound * gate_of(c, r, e);
        });
        expect_stored_state(oracle, state, moved);
      }
    }
  });
}

TEST(ScanSelective, NarrowStatesDoNotDependOnBatchOrThreads) {
  on_every_target([&] {
    Random random(10);
    for (const DType dtype : {DType::kBF16, DType::kI8}) {
      Case c(60, 150, 16, 2, random);
      const StoredState state = stored(dtype, c);
      tests::expect_sequences_and_threads_do_not_matter(
          150, state.as_floats(),
          [&](ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& y) { c.run(pool, sequences, y); });
    }
  });
}

}  // namespace
}  // namespace krait::kernels
