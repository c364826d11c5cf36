#include "krait/kernels/scan_ssd.h"

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
  Matrix x, dt, b, c, a, d, bias, state;
  SsdScan scan;

  Case(std::int64_t rows, std::int64_t heads, std::int64_t width, std::int64_t states, std::int64_t groups,
       std::int64_t chunk, Random& random)
      : x(rows, heads * width, 1, 1),
        dt(rows, heads, 2),
        b(rows, groups * states, 3),
        c(rows, groups * states, 5, 1),
        a(1, heads),
        d(1, heads * width),
        bias(1, heads),
        state(heads * states, width) {
    x.fill_normal(random);
    dt.fill_normal(random);
    b.fill_normal(random);
    c.fill_normal(random);
    a.fill_uniform(random, -16.0, -0.01);
    d.fill_normal(random);
    bias.fill_uniform(random, -6.0, -1.0);
    state.fill_normal(random);
    scan = {.heads = heads,
            .head_width = width,
            .states = states,
            .groups = groups,
            .chunk = chunk,
            .a = a.data(),
            .d = d.data(),
            .d_per_channel = false,
            .dt_bias = bias.data()};
  }

  void run(ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& y) const {
    ssd_scan(pool, scan, x.in(), dt.in(), b.in(), c.in(), sequences, y.out());
  }
};

std::vector<double> widened(const Matrix& m) { return {m.data(), m.data() + m.rows() * m.columns()}; }

// Oracle and, with absolute inputs and half the decay, the magnitude the errors are measured against. As for the
// selective scan: dt carries 12 roundings with its bias; T decays of a term contribute (13 a + 5) roundings each,
// the a-part of which half the decay absorbs. In the chunked form a decay is one exponential of a difference of
// sums carried in double, so its error is no larger. Sums over N and over a chunk's rows add N + min(Q, T), weights
// and D some 20.
struct Oracle {
  Expected y, magnitude;
  std::vector<double> state, state_magnitude;
  double factor;

  explicit Oracle(const Case& c)
      : y(c.x.rows(), c.x.columns()),
        magnitude(c.x.rows(), c.x.columns()),
        state(widened(c.state)),
        state_magnitude(widened(c.state.absolute())) {
    reference::ssd_scan(c.scan, c.x.in(), c.dt.in(), c.b.in(), c.c.in(), state, y.out());
    const Matrix x_abs = c.x.absolute(), b_abs = c.b.absolute(), c_abs = c.c.absolute(), d_abs = c.d.absolute();
    Matrix half_decay = c.a;
    for (std::int64_t h = 0; h < c.scan.heads; ++h) half_decay.at(0, h) *= 0.5F;
    SsdScan majorant = c.scan;
    majorant.a = half_decay.data();
    majorant.d = c.scan.d == nullptr ? nullptr : d_abs.data();
    reference::ssd_scan(majorant, x_abs.in(), c.dt.in(), b_abs.in(), c_abs.in(), state_magnitude, magnitude.out());
    const auto rows = static_cast<double>(c.x.rows());
    factor = kRounding * (5.0 * rows + static_cast<double>(c.scan.states) +
                          std::min(rows, static_cast<double>(c.scan.chunk)) + 45.0);
  }

  void expect(const Matrix& actual, const Matrix& actual_state) const {
    tests::expect_near(actual, y, [&](auto r, auto e) { return factor * magnitude.at(r, e); });
    for (std::size_t i = 0; i < state.size(); ++i) {
      ASSERT_NEAR(actual_state.data()[i], state[i], factor * state_magnitude[i] + tests::kTiny) << "state, at " << i;
    }
  }
};

void expect_matches_oracle(ThreadPool& pool, const Case& c) {
  const Oracle oracle(c);
  Matrix y(c.x.rows(), c.x.columns(), 3, 1), state = c.state;
  const SequenceRows sequence{.first_row = 0, .rows = c.x.rows(), .state = state.bytes()};
  c.run(pool, {&sequence, 1}, y);
  oracle.expect(y, state);
  y.check_gaps();
}

TEST(ScanSsd, MatchesOracleAtEveryHeadWidth) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t width : tests::kLengths) {
      for (const std::int64_t rows : {0, 1, 2, 7, 16, 17, 40}) {
        SCOPED_TRACE(::testing::Message() << "P " << width << ", " << rows << " rows");
        expect_matches_oracle(pool, Case(rows, 2, width, 17, 1, 16, random));
      }
    }
  });
}

TEST(ScanSsd, MatchesOracleAtEveryStateSizeChunkAndGroup) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(2);
    for (const std::int64_t states : {1, 3, 16, 33, 128}) {
      for (const std::int64_t chunk : {1, 5, 16, 64, 100}) {
        SCOPED_TRACE(::testing::Message() << "N " << states << ", chunk " << chunk);
        expect_matches_oracle(pool, Case(70, 6, 16, states, 3, chunk, random));
      }
    }
  });
}

TEST(ScanSsd, OptionalPartsAndLimits) {
  ThreadPool pool(2);
  on_every_target([&] {
    for (const std::int64_t rows : {1, 23}) {
      for (int variant = 0; variant < 8; ++variant) {
        Random random(3);
        Case c(rows, 4, 9, 8, 2, 8, random);
        if (variant & 1) c.scan.dt_bias = nullptr;
        if (variant & 2) c.scan.d_per_channel = true;
        if (variant & 4) {
          c.scan.dt_low = 0.05F;
          c.scan.dt_high = 0.2F;
        }
        expect_matches_oracle(pool, c);
        c.scan.d = nullptr;
        expect_matches_oracle(pool, c);
      }
    }
  });
}

TEST(ScanSsd, FastDecayOverLongChunksStaysFinite) {
  ThreadPool pool(1);
  on_every_target([&] {
    Random random(4);
    Case c(200, 2, 16, 8, 1, 128, random);
    c.dt.fill_uniform(random, 15.0, 25.0);  // decays of e^-300 and less: differences above the diagonal overflow
    c.a.fill_uniform(random, -20.0, -10.0);
    c.scan.dt_bias = nullptr;
    expect_matches_oracle(pool, c);
  });
}

TEST(ScanSsd, SplitAnywhereAgreesWithTheWhole) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(5);
    const Case c(37, 3, 20, 12, 1, 16, random);
    const Oracle oracle(c);
    for (std::int64_t cut = 0; cut <= 37; ++cut) {
      Matrix y(37, 60), state = c.state;
      const SequenceRows first{.first_row = 0, .rows = cut, .state = state.bytes()};
      const SequenceRows second{.first_row = cut, .rows = 37 - cut, .state = state.bytes()};
      c.run(pool, {&first, 1}, y);
      c.run(pool, {&second, 1}, y);
      oracle.expect(y, state);
    }
    Matrix y(37, 60), state = c.state;
    for (std::int64_t row = 0; row < 37; ++row) {
      const SequenceRows step{.first_row = row, .rows = 1, .state = state.bytes()};
      c.run(pool, {&step, 1}, y);
    }
    oracle.expect(y, state);
  });
}

TEST(ScanSsd, SequencesOfABatchAndThreadsDoNotMatter) {
  on_every_target([&] {
    Random random(6);
    const Case c(60, 4, 24, 16, 2, 16, random);
    tests::expect_sequences_and_threads_do_not_matter(
        96, c.state,
        [&](ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& y) { c.run(pool, sequences, y); });
  });
}

// Within the f32 bound of the oracle, and within one storing for the state.
void expect_stored_state(const Oracle& oracle, const StoredState& state) {
  for (std::int64_t r = 0; r < state.rows(); ++r) {
    const auto slack = [&](auto i) {
      return oracle.factor * oracle.state_magnitude[static_cast<std::size_t>(r * state.width() + i)] + tests::kTiny;
    };
    const auto value = [&](auto i) { return oracle.state[static_cast<std::size_t>(r * state.width() + i)]; };
    for (std::int64_t i = 0; i < state.width(); ++i) {
      const double stored = state.storing_error(i, [&](auto j) { return std::fabs(value(j)) + slack(j); });
      ASSERT_NEAR(state.at(r, i), value(i), slack(i) + stored) << "state row " << r << ", value " << i;
    }
  }
}

TEST(ScanSsd, NarrowStatesMatchOracle) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(7);
    for (const DType dtype : tests::kStateDTypes) {
      for (const std::int64_t width : {1, 16, 37, 64, 65, 130}) {
        for (const std::int64_t rows : {0, 1, 2, 40}) {
          SCOPED_TRACE(::testing::Message() << to_string(dtype) << ", P " << width << ", " << rows << " rows");
          Case c(rows, 3, width, 5, 1, 16, random);
          c.scan.state_dtype = dtype;
          StoredState state(dtype, c.state);
          const Oracle oracle(c);
          Matrix y(rows, c.x.columns());
          const SequenceRows sequence{.first_row = 0, .rows = rows, .state = state.bytes()};
          c.run(pool, {&sequence, 1}, y);
          tests::expect_near(y, oracle.y, [&](auto r, auto e) { return oracle.factor * oracle.magnitude.at(r, e); });
          if (rows > 0) expect_stored_state(oracle, state);
        }
      }
    }
  });
}

TEST(ScanSsd, ZeroBytesAreTheZeroStateInEveryDType) {
  ThreadPool pool(1);
  on_every_target([&] {
    for (const std::int64_t rows : {1, 9}) {
      Random random(8);
      Case c(rows, 2, 70, 6, 1, 8, random);
      c.state.fill([] { return 0.0; });
      Matrix expected(rows, 140);
      const SequenceRows wide{.first_row = 0, .rows = rows, .state = c.state.bytes()};
      c.run(pool, {&wide, 1}, expected);
      for (const DType dtype : tests::kStateDTypes) {
        c.scan.state_dtype = dtype;
        StoredState state(dtype, 12, 70);
        Matrix y(rows, 140);
        const SequenceRows sequence{.first_row = 0, .rows = rows, .state = state.bytes()};
        c.run(pool, {&sequence, 1}, y);
        tests::expect_same_bits(y, expected);
        // Nothing in, nothing kept.
        StoredState still(dtype, 12, 70);
        const StoredState zero = still;
        Case silent = c;
        silent.x.fill([] { return 0.0; });
        const SequenceRows quiet{.first_row = 0, .rows = rows, .state = still.bytes()};
        silent.run(pool, {&quiet, 1}, y);
        tests::expect_same_bits(still.as_floats(), zero.as_floats());
      }
    }
  });
}

// A cut stores the state once more. What storing moves, decays (at most by nothing) until the end, and reaches y
// through C: both are added to the bounds of the whole.
TEST(ScanSsd, SplitAnywhereAgreesWithinOneStoring) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(9);
    for (const DType dtype : {DType::kBF16, DType::kI8}) {
      Case c(20, 2, 70, 6, 1, 8, random);
      c.scan.state_dtype = dtype;
      const StoredState start(dtype, c.state);
      const Oracle oracle(c);
      for (std::int64_t cut = 0; cut <= 20; ++cut) {
        StoredState state = start;
        Matrix y(20, 140);
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
          for (std::int64_t n = 0; r >= cut && n < 6; ++n)
            bound += std::fabs(c.c.at(r, n)) * moved(e / 70 * 6 + n, e % 70);
          return bound;
        });
        for (std::int64_t r = 0; r < 12; ++r) {
          const auto slack = [&](auto i) {
            return oracle.factor * oracle.state_magnitude[static_cast<std::size_t>(r * 70 + i)] + moved(r, i);
          };
          const auto value = [&](auto i) { return oracle.state[static_cast<std::size_t>(r * 70 + i)]; };
          for (std::int64_t i = 0; i < 70; ++i) {
            const double stored = state.storing_error(i, [&](auto j) { return std::fabs(value(j)) + slack(j); });
            ASSERT_NEAR(state.at(r, i), value(i), slack(i) + stored) << "cut " << cut;
          }
        }
      }
    }
  });
}

TEST(ScanSsd, NarrowStatesDoNotDependOnBatchOrThreads) {
  on_every_target([&] {
    Random random(10);
    for (const DType dtype : {DType::kBF16, DType::kI8}) {
      Case c(60, 4, 70, 6, 2, 16, random);
      c.scan.state_dtype = dtype;
      const StoredState state(dtype, c.state);
      tests::expect_sequences_and_threads_do_not_matter(
          280, state.as_floats(),
          [&](ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& y) { c.run(pool, sequences, y); });
    }
  });
}

// The reason for rounding by chance: to nearest, a decay of less than half a step would never move a value.
TEST(ScanSsd, SlowDecaysAreNotLostToRounding) {
  ThreadPool pool(1);
  on_every_target([&] {
    Random random(11);
    Case c(1, 2, 64, 16, 1, 16, random);
    c.x.fill([] { return 0.0; });
    c.scan.dt_bias = nullptr;
    c.a.fill([] { return -0x1p-11 / 22.0; });  // dt below: a decay of 2^-11 a token, a quarter of bf16's half step
    for (const DType dtype : {DType::kBF16, DType::kI8}) {
      c.scan.state_dtype = dtype;
      StoredState state(dtype, c.state);
      const Matrix start = c.state;
      Matrix y(1, 128);
      const SequenceRows sequence{.first_row = 0, .rows = 1, .state = state.bytes()};
      double exponent[2] = {};
      for (int t = 0; t < 2048; ++t) {
        c.dt.fill_uniform(random, 21.0, 23.0);  // above 20 the softplus is the identity
        for (std::int64_t h = 0; h < 2; ++h) exponent[h] += double{c.a.at(0, h)} * c.dt.at(0, h);
        c.run(pool, {&sequence, 1}, y);
      }
      for (std::int64_t h = 0; h < 2; ++h) {
        double before = 0.0, after = 0.0;
        for (std::int64_t r = 16 * h; r < 16 * h + 16; ++r) {
          for (std::int64_t i = 0; i < 64; ++i) {
            before += std::fabs(start.at(r, i));
            after += std::fabs(state.at(r, i));
          }
        }
        // About e^-1. A value takes 2048 x 2^-11 x 2^8 steps at most, by chance: off by sqrt(256) 2^-8 of itself in
        // the standard deviation, int8's small values by as much as its large ones; their mean by 32 times less.
        EXPECT_NEAR(after / before, std::exp(exponent[h]), 0.02) << to_string(dtype);
      }
    }
  });
}

}  // namespace
}  // namespace krait::kernels
