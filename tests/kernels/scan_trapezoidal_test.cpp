#include "krait/kernels/scan_trapezoidal.h"

#include <cmath>

#include "krait/core/aligned_buffer.h"
#include "krait/kernels/reference/scan_trapezoidal.h"
#include "krait/kernels/state_storage.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::Expected;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;

struct Sizes {
  std::int64_t rows, heads, width, states, groups, rank, angles;
  bool halves = false;
};

// Inputs and parameters, and where the parts of a state stand behind each other.
struct Case {
  Matrix x, z, b, c, dt, a, trap, angle;
  Matrix dt_bias, b_norm, c_norm, b_bias, c_bias, d, value_mix, gate_mix, out_mix, norm;
  TrapezoidalScan scan;

  Case(const Sizes& s, Random& random, DType state_dtype = DType::kF32)
      : x(s.rows, s.heads * s.width, 1, 1),
        z(s.rows, s.heads * s.width, 3),
        b(s.rows, s.rank * s.groups * s.states, 5, 1),
        c(s.rows, s.rank * s.groups * s.states, 2),
        dt(s.rows, s.heads, 1),
        a(s.rows, s.heads),
        trap(s.rows, s.heads, 4),
        angle(s.rows, s.angles, 3, 1),
        dt_bias(1, s.heads),
        b_norm(1, s.states),
        c_norm(1, s.states),
        b_bias(s.heads, s.rank * s.states),
        c_bias(s.heads, s.rank * s.states),
        d(1, s.heads),
        value_mix(s.heads, s.rank * s.width),
        gate_mix(s.heads, s.rank * s.width),
        out_mix(s.heads, s.rank * s.width),
        norm(s.heads, s.width) {
    for (Matrix* m : {&x, &z, &b, &c, &dt, &a, &trap, &angle, &b_norm, &c_norm, &b_bias, &c_bias, &d, &value_mix,
                      &gate_mix, &out_mix, &norm}) {
      m->fill_normal(random);
    }
    dt_bias.fill_uniform(random, -6.0, -1.0);
    const std::int64_t state = state_bytes(state_dtype, s.heads * s.states, s.width);
    const auto after = [](std::int64_t bytes) { return (bytes + 63) / 64 * 64; };
    scan = {.heads = s.heads,
            .head_width = s.width,
            .states = s.states,
            .groups = s.groups,
            .rank = s.rank,
            .angles = s.angles,
            .halves = s.halves,
            .chunk = 16,
            .dt_bias = dt_bias.data(),
            .b_norm = b_norm.data(),
            .c_norm = c_norm.data(),
            .b_bias = b_bias.data(),
            .c_bias = c_bias.data(),
            .d = d.data(),
            .state_dtype = state_dtype};
    if (s.rank > 1) {
      scan.value_mix = value_mix.data();
      scan.gate_mix = gate_mix.data();
      scan.out_mix = out_mix.data();
    }
    scan.angle_offset = after(state);
    scan.key_offset = scan.angle_offset + after(4 * s.heads * s.angles);
    scan.value_offset = scan.key_offset + after(4 * s.heads * s.rank * s.states);
  }

  std::int64_t state_floats() const { return (scan.value_offset + 4 * scan.heads * scan.head_width) / 4; }
  Matrix zero_state() const { return {1, state_floats()}; }
  TrapezoidalInputs inputs() const { return {x.in(), z.in(), b.in(), c.in(), dt.in(), a.in(), trap.in(), angle.in()}; }
  void run(ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& y) const {
    trapezoidal_scan(pool, scan, inputs(), sequences, y.out());
  }
};

// From the zero state. Roundings that a term of y goes through: softplus, A, the sigmoid and their products some 30,
// the norm of k and of q N / 2 + 10 each, sums over N, R and a chunk; T decays of 5 each beyond what half the decay
// absorbs; the angle pi (a rounding at most of 4) and 6 more a row, for k and for q, against magnitudes that take both
// entries of a pair whole.
struct Oracle {
  Expected y, magnitude;
  reference::TrapezoidalState state;
  double factor;

  explicit Oracle(const Case& c) : y(c.x.rows(), c.x.columns()), magnitude(c.x.rows(), c.x.columns()), state(c.scan) {
    reference::trapezoidal_scan(c.scan, c.inputs(), state, y.out(), magnitude.out());
    const auto rows = static_cast<double>(c.x.rows());
    factor = kRounding * ((5.0 + 2.0 * 10.0) * rows + 2.0 * static_cast<double>(c.scan.states * c.scan.rank) + 90.0 +
                          static_cast<double>(c.scan.head_width));
  }

  void expect_outputs(const Matrix& actual) const {
    tests::expect_near(actual, y, [&](auto r, auto e) { return factor * magnitude.at(r, e); });
  }
  void expect_state(const Case& c, Matrix& actual) const {
    const std::byte* bytes = actual.bytes();
    const auto* s = reinterpret_cast<const float*>(bytes);
    for (std::size_t i = 0; i < state.state.size(); ++i) {
      ASSERT_NEAR(s[i], state.state[i], factor * state.state_magnitude[i] + tests::kTiny) << "S, at " << i;
    }
    const auto* key = reinterpret_cast<const float*>(bytes + c.scan.key_offset);
    for (std::size_t i = 0; i < state.key.size(); ++i) {
      ASSERT_NEAR(key[i], state.key[i], factor * state.key_magnitude[i] + tests::kTiny) << "k, at " << i;
    }
    const auto* value = reinterpret_cast<const float*>(bytes + c.scan.value_offset);
    for (std::size_t i = 0; i < state.value.size(); ++i) ASSERT_EQ(value[i], state.value[i]) << "v, at " << i;
  }
};

void expect_matches_oracle(ThreadPool& pool, const Case& c) {
  const Oracle oracle(c);
  Matrix y(c.x.rows(), c.x.columns(), 3, 1), state = c.zero_state();
  const SequenceRows sequence{.first_row = 0, .rows = c.x.rows(), .state = state.bytes()};
  c.run(pool, {&sequence, 1}, y);
  oracle.expect_outputs(y);
  if (c.x.rows() > 0) oracle.expect_state(c, state);
  y.check_gaps();
}

TEST(ScanTrapezoidal, MatchesOracleAtEveryWidthAndRank) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t width : {1, 3, 8, 16, 17, 34, 64, 66}) {
      for (const std::int64_t rank : {1, 2, 3, 4}) {
        for (const std::int64_t rows : {0, 1, 2, 17, 40}) {
          SCOPED_TRACE(::testing::Message() << "P " << width << ", R " << rank << ", " << rows << " rows");
          expect_matches_oracle(pool, Case({rows, 2, width, 10, 1, rank, 4, rank > 1}, random));
        }
      }
    }
  });
}

TEST(ScanTrapezoidal, MatchesOracleAtEveryStateSizeChunkAndPairing) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(2);
    for (const std::int64_t states : {2, 6, 32, 66, 128}) {
      for (const std::int64_t chunk : {1, 5, 16, 64, 100}) {
        for (const bool halves : {false, true}) {
          SCOPED_TRACE(::testing::Message() << "N " << states << ", chunk " << chunk << ", halves " << halves);
          Case c({70, 6, 16, states, 3, halves ? 4 : 1, halves ? states / 4 : states / 2, halves}, random);
          c.scan.chunk = chunk;
          expect_matches_oracle(pool, c);
        }
      }
    }
  });
}

TEST(ScanTrapezoidal, NormBeforeTheGate) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(3);
    for (const std::int64_t rank : {1, 4}) {
      for (const std::int64_t rows : {1, 21}) {
        Case c({rows, 4, 24, 16, 2, rank, 8, rank > 1}, random);
        c.scan.norm = c.norm.data();
        expect_matches_oracle(pool, c);
      }
    }
  });
}

TEST(ScanTrapezoidal, FastDecayOverLongChunksStaysFinite) {
  ThreadPool pool(1);
  on_every_target([&] {
    Random random(4);
    Case c({200, 2, 16, 8, 1, 1, 2, false}, random);
    c.scan.chunk = 128;
    c.dt.fill_uniform(random, 15.0, 25.0);
    c.a.fill_uniform(random, 10.0, 20.0);
    expect_matches_oracle(pool, c);
  });
}

TEST(ScanTrapezoidal, SplitAnywhereAgreesWithTheWhole) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(5);
    for (const std::int64_t rank : {1, 3, 4}) {
      const Case c({37, 3, 20, 12, 1, rank, 6, rank > 1}, random);
      const Oracle oracle(c);
      for (std::int64_t cut = 0; cut <= 37; ++cut) {
        Matrix y(37, 60), state = c.zero_state();
        const SequenceRows first{.first_row = 0, .rows = cut, .state = state.bytes()};
        const SequenceRows second{.first_row = cut, .rows = 37 - cut, .state = state.bytes()};
        c.run(pool, {&first, 1}, y);
        c.run(pool, {&second, 1}, y);
        oracle.expect_outputs(y);
        oracle.expect_state(c, state);
      }
      Matrix y(37, 60), state = c.zero_state();
      for (std::int64_t row = 0; row < 37; ++row) {
        const SequenceRows step{.first_row = row, .rows = 1, .state = state.bytes()};
        c.run(pool, {&step, 1}, y);
      }
      oracle.expect_outputs(y);
      oracle.expect_state(c, state);
    }
  });
}

TEST(ScanTrapezoidal, SequencesOfABatchAndThreadsDoNotMatter) {
  on_every_target([&] {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI8}) {
      Random random(6);
      const Case c({60, 4, 24, 16, 2, 4, 8, true}, random, dtype);
      tests::expect_sequences_and_threads_do_not_matter(
          96, c.zero_state(),
          [&](ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& y) { c.run(pool, sequences, y); });
    }
  });
}

// Outputs are gathered before the state is rounded: within one call from the zero state they do not feel its format.
TEST(ScanTrapezoidal, OutputsMatchOracleBeforeStatesAreNarrowed) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(7);
    for (const DType dtype : {DType::kBF16, DType::kI8}) {
      for (const std::int64_t rank : {1, 2, 3, 4}) {
        for (const std::int64_t rows : {1, 2, 30}) {
          const Case c({rows, 3, 37, 8, 1, rank, 4, rank > 1}, random, dtype);
          const Oracle oracle(c);
          Matrix y(rows, 3 * 37), state = c.zero_state();
          const SequenceRows sequence{.first_row = 0, .rows = rows, .state = state.bytes()};
          c.run(pool, {&sequence, 1}, y);
          oracle.expect_outputs(y);
        }
      }
    }
  });
}

// The angle is kept within a turn, so that it is as accurate after many tokens as after few.
TEST(ScanTrapezoidal, AnglesStayAccurateOverManyTurns) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(8);
    Case c({3000, 1, 8, 8, 1, 1, 4, false}, random);
    c.dt.fill_uniform(random, 1.0, 3.0);
    c.dt_bias.fill([] { return 0.0; });
    c.angle.fill_uniform(random, 0.5, 2.0);  // up to 9 radians a token, always forward
    const Oracle oracle(c);
    Matrix y(3000, 8), state = c.zero_state();
    const SequenceRows sequence{.first_row = 0, .rows = 3000, .state = state.bytes()};
    c.run(pool, {&sequence, 1}, y);
    oracle.expect_outputs(y);
    const auto* angle = reinterpret_cast<const float*>(state.bytes() + c.scan.angle_offset);
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_LE(std::fabs(angle[i]), 3.1416F);
      // Each row adds a rounding of the increment (up to 10, relative) and of the sum: 3000 x (5 + 1) x 2^-22.
      EXPECT_NEAR(std::remainder(angle[i] - oracle.state.angle[i], 2.0 * M_PI), 0.0, 3000 * 6 * 0x1p-22);
    }
  });
}

}  // namespace
}  // namespace krait::kernels
