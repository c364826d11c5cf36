#include "krait/kernels/scan_ssd.h"

#include "krait/kernels/reference/scan.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::Expected;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;

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
  const SequenceRows sequence{.first_row = 0, .rows = c.x.rows(), .state = state.data()};
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
      const SequenceRows first{.first_row = 0, .rows = cut, .state = state.data()};
      const SequenceRows second{.first_row = cut, .rows = 37 - cut, .state = state.data()};
      c.run(pool, {&first, 1}, y);
      c.run(pool, {&second, 1}, y);
      oracle.expect(y, state);
    }
    Matrix y(37, 60), state = c.state;
    for (std::int64_t row = 0; row < 37; ++row) {
      const SequenceRows step{.first_row = row, .rows = 1, .state = state.data()};
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

}  // namespace
}  // namespace krait::kernels
