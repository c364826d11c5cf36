#include "krait/kernels/scan_s4d.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "krait/kernels/reference/s4d_kernel.h"
#include "krait/kernels/reference/scan_s4d.h"
#include "tests/kernels/double_matrix.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;
using tests::WideMatrix;

struct Case {
  std::int64_t rows, channels, states;
  Matrix x, z, w, d, initial, dy, dfinal;
  bool skips = true;

  Case(std::int64_t row_count, std::int64_t channel_count, std::int64_t state_count, Random& random)
      : rows(row_count),
        channels(channel_count),
        states(state_count),
        x(rows, channels, 3, 1),
        z(2 * states, channels),
        w(2 * states, channels),
        d(1, channels),
        initial(2 * states, channels),
        dy(rows, channels, 2, 1),
        dfinal(2 * states, channels) {
    for (Matrix* m : {&x, &w, &d, &initial, &dy, &dfinal}) m->fill_normal(random);
    for (std::int64_t m = 0; m < states; ++m) {
      for (std::int64_t c = 0; c < channels; ++c) {
        const double size = 0.8 + 0.199 * random.uniform(), angle = 2.0 * std::numbers::pi * random.uniform();
        z.at(2 * m, c) = static_cast<float>(size * std::cos(angle));
        z.at(2 * m + 1, c) = static_cast<float>(size * std::sin(angle));
      }
    }
  }
  S4dScan scan() const {
    return {.channels = channels, .states = states, .z = z.data(), .w = w.data(), .d = skips ? d.data() : nullptr};
  }
};

struct Oracle {
  WideMatrix x, z, w, d, initial, dy, dfinal;
  WideMatrix y, last, dx, dz, dw, dd, dinitial;
  S4dScanOf<double> scan;
  SequenceRows sequence;

  explicit Oracle(const Case& c)
      : x(c.x),
        z(c.z),
        w(c.w),
        d(c.d),
        initial(c.initial),
        dy(c.dy),
        dfinal(c.dfinal),
        y(c.x),
        last(c.initial),
        dx(c.x),
        dz(c.z),
        dw(c.w),
        dd(c.d),
        dinitial(c.initial),
        scan{.channels = c.channels,
             .states = c.states,
             .z = z.data(),
             .w = w.data(),
             .d = c.skips ? d.data() : nullptr},
        sequence{.first_row = 0, .rows = c.rows, .state = nullptr} {}
  void forward() {
    last = initial;
    double* state = last.data();
    reference::s4d_scan(scan, x.in(), {&sequence, 1}, {&state, 1}, y.out());
  }
  void backward() {
    for (WideMatrix* m : {&dz, &dw, &dd}) m->clear();
    const double* state = initial.data();
    const SequenceGradientsOf<double> states{.final_state = dfinal.data(), .initial_state = dinitial.data()};
    reference::s4d_scan_backward(scan, x.in(), dy.in(), {&sequence, 1}, {&state, 1}, {&states, 1},
                                 {.x = dx.out(), .z = dz.data(), .w = dw.data(), .d = dd.data()});
  }
};

double size_at(const WideMatrix& m, std::int64_t state, std::int64_t c) {
  return std::hypot(m.at(2 * state, c), m.at(2 * state + 1, c));
}

// A step rounds each part of z h + x (or of conj(z) g + conj(w) dy) twice, on terms below 2 H where H = |z| H + |x| is
// the recurrence on absolute values: 4 u H. What came before is wrong by |z| times its own error.
struct Errors {
  double size, error = 0.0;
  void step(double decay, double input) {
    size = decay * size + input;
    error = decay * error + 4.0 * kRounding * size;
  }
};

// What a channel's results may be wrong by: sums over states add 2 M + 2 roundings of their terms, sums over rows are
// chains of a chunk and then one of chunks, real and imaginary parts together at most sqrt(2) of the size.
struct Bounds {
  std::vector<double> y, dx;                  // of each row
  std::vector<double> last, initial, dz, dw;  // of each state
  double dd = 0.0;

  Bounds(const Oracle& o, std::int64_t c) {
    const std::int64_t rows = o.sequence.rows, states = o.scan.states;
    const double over_states = (2.0 * static_cast<double>(states) + 4.0) * kRounding;
    const double over_rows = (2.0 * static_cast<double>(kS4dChunk) + static_cast<double>(rows / kS4dChunk) + 4.0) *
                             std::numbers::sqrt2 * kRounding;
    for (std::int64_t t = 0; t < rows; ++t) {
      const double skip = o.scan.d == nullptr ? 0.0 : std::fabs(o.d.at(0, c));
      y.push_back(over_states * skip * std::fabs(o.x.at(t, c)));
      dx.push_back(over_states * skip * std::fabs(o.dy.at(t, c)));
      dd += over_rows * std::fabs(o.x.at(t, c) * o.dy.at(t, c));
    }
    for (std::int64_t m = 0; m < states; ++m) {
      const double decay = size_at(o.z, m, c), weight = size_at(o.w, m, c);
      std::vector<Errors> h = {{.size = size_at(o.initial, m, c)}};
      for (std::int64_t t = 0; t < rows; ++t) {
        h.push_back(h.back());
        h.back().step(decay, std::fabs(o.x.at(t, c)));
        y[static_cast<std::size_t>(t)] += weight * (h.back().error + over_states * h.back().size);
      }
      last.push_back(h.back().error);
      Errors g{.size = size_at(o.dfinal, m, c)};
      double by_z = 0.0, by_w = 0.0;
      for (std::int64_t t = rows - 1; t >= 0; --t) {
        const auto row = static_cast<std::size_t>(t);
        const double up = std::fabs(o.dy.at(t, c));
        g.step(t + 1 < rows ? decay : 1.0, weight * up);
        dx[row] += g.error + over_states * g.size;
        by_w += up * (h[row + 1].error + over_rows * h[row + 1].size);
        by_z += g.error * h[row].size + g.size * (h[row].error + over_rows * h[row].size);
      }
      dz.push_back(by_z);
      dw.push_back(by_w);
      initial.push_back(g.error + 4.0 * kRounding * g.size);
    }
  }
};

void expect_matches_oracle(ThreadPool& pool, const Case& c) {
  Oracle o(c);
  o.forward();
  o.backward();
  const std::int64_t chunks = s4d_chunks(c.rows);
  Matrix y(c.rows, c.channels, 2, 1), state = c.initial, borders(chunks * 2 * c.states, c.channels);
  const SequenceRows sequence{.first_row = 0, .rows = c.rows, .state = state.bytes()};
  s4d_scan(pool, c.scan(), c.x.in(), {&sequence, 1}, y.out(), borders.data());
  y.check_gaps();
  Matrix dx(c.rows, c.channels, 1), dz(2 * c.states, c.channels), dw = dz, dd(1, c.channels), dinitial = c.initial;
  const SequenceRows again{.first_row = 0, .rows = c.rows, .state = nullptr};
  const SequenceGradients states{.final_state = c.dfinal.data(), .initial_state = dinitial.data()};
  s4d_scan_backward(pool, c.scan(), c.x.in(), {&again, 1}, borders.data(), c.dy.in(), {&states, 1},
                    {.x = dx.out(), .z = dz.data(), .w = dw.data(), .d = dd.data()});
  dx.check_gaps();
  for (std::int64_t e = 0; e < c.channels; ++e) {
    const Bounds bounds(o, e);
    for (std::int64_t t = 0; t < c.rows; ++t) {
      const auto row = static_cast<std::size_t>(t);
      ASSERT_NEAR(y.at(t, e), o.y.at(t, e), bounds.y[row]) << "row " << t << ", channel " << e;
      ASSERT_NEAR(dx.at(t, e), o.dx.at(t, e), bounds.dx[row]) << "dx, row " << t << ", channel " << e;
    }
    for (std::int64_t i = 0; i < 2 * c.states; ++i) {
      const auto m = static_cast<std::size_t>(i / 2);
      ASSERT_NEAR(state.at(i, e), o.last.at(i, e), bounds.last[m]) << "state " << i << ", channel " << e;
      ASSERT_NEAR(dz.at(i, e), o.dz.at(i, e), bounds.dz[m]) << "dz " << i << ", channel " << e;
      ASSERT_NEAR(dw.at(i, e), o.dw.at(i, e), bounds.dw[m]) << "dw " << i << ", channel " << e;
      ASSERT_NEAR(dinitial.at(i, e), o.dinitial.at(i, e), bounds.initial[m]) << "state " << i << ", channel " << e;
    }
    ASSERT_NEAR(dd.at(0, e), o.dd.at(0, e), bounds.dd) << "dD, channel " << e;
  }
}

TEST(ScanS4d, MatchesOracleAtEveryLength) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t channels : tests::kLengths) {
      for (const std::int64_t states : {1, 4, 7}) {
        for (const std::int64_t rows : {0, 1, 63, 64, 65, 140}) {
          SCOPED_TRACE(::testing::Message() << channels << " channels, " << states << " states, " << rows << " rows");
          Case c(rows, channels, states, random);
          c.skips = states != 4;
          expect_matches_oracle(pool, c);
        }
      }
    }
  });
}

TEST(ScanS4d, ACutChangesNoBit) {
  on_every_target([&] {
    Random random(2);
    const Case c(21, 37, 5, random);
    tests::expect_a_cut_changes_no_bit(21, 37, c.initial, [&](ThreadPool& pool, SequenceRows sequence, Matrix& y) {
      s4d_scan(pool, c.scan(), c.x.in(), {&sequence, 1}, y.out());
    });
  });
}

TEST(ScanS4d, SequencesOfABatchAndThreadsDoNotMatter) {
  on_every_target([&] {
    Random random(3);
    const Case c(170, 40, 6, random);
    tests::expect_sequences_and_threads_do_not_matter(
        40, c.initial, [&](ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& y) {
          s4d_scan(pool, c.scan(), c.x.in(), sequences, y.out());
        });
    const std::vector<SequenceRows> sequences = {{.first_row = 0, .rows = 100, .state = nullptr},
                                                 {.first_row = 100, .rows = 0, .state = nullptr},
                                                 {.first_row = 100, .rows = 70, .state = nullptr}};
    Matrix first_dx, first_dz;
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      Matrix y(170, 40), borders(4 * 12, 40), dx(170, 40), dz(12, 40);
      s4d_scan(pool, c.scan(), c.x.in(), sequences, y.out(), borders.data());
      s4d_scan_backward(pool, c.scan(), c.x.in(), sequences, borders.data(), c.dy.in(), {},
                        {.x = dx.out(), .z = dz.data(), .w = nullptr, .d = nullptr});
      if (threads == 1) first_dx = dx, first_dz = dz;
      tests::expect_same_bits(dx, first_dx);
      tests::expect_same_bits(dz, first_dz);
    }
    // Gradients of parameters are added to what is there, sequence by sequence.
    ThreadPool pool(1);
    Matrix y(170, 40), borders(4 * 12, 40), dx(170, 40), dz(12, 40);
    for (const SequenceRows& sequence : sequences) {
      s4d_scan(pool, c.scan(), c.x.in(), {&sequence, 1}, y.out(), borders.data());
      s4d_scan_backward(pool, c.scan(), c.x.in(), {&sequence, 1}, borders.data(), c.dy.in(), {},
                        {.x = dx.out(), .z = dz.data(), .w = nullptr, .d = nullptr});
    }
    tests::expect_same_bits(dz, first_dz);
    tests::expect_same_bits(dx, first_dx);
  });
}

TEST(ScanS4d, ResultsMayStandWhereInputsStood) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(4);
    Case c(80, 19, 3, random);
    const SequenceRows sequence{.first_row = 0, .rows = 80, .state = nullptr};
    Matrix y(80, 19, 3, 1), dx(80, 19, 2, 1), borders(2 * 6, 19);
    const auto take_back = [&](RowsOut to) {
      s4d_scan_backward(pool, c.scan(), c.x.in(), {&sequence, 1}, borders.data(), c.dy.in(), {},
                        {.x = to, .z = nullptr, .w = nullptr, .d = nullptr});
    };
    s4d_scan(pool, c.scan(), c.x.in(), {&sequence, 1}, y.out(), borders.data());
    take_back(dx.out());
    take_back(c.dy.out());
    tests::expect_same_bits(c.dy, dx);
    s4d_scan(pool, c.scan(), c.x.in(), {&sequence, 1}, c.x.out());
    tests::expect_same_bits(c.x, y);
  });
}

// The parameters that a kernel is made of step the same model: 1e-6 of the largest output, like kernel and convolution.
TEST(ScanS4d, StepsTheModelOfTheKernel) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(5);
    const std::int64_t channels = 9, states = 8, rows = 128;
    Matrix log_dt(1, channels), log_decay(3, states), frequency(3, states), b(3, 2 * states), c(channels, 2 * states);
    log_dt.fill_uniform(random, std::log(1e-3), std::log(1e-1));
    log_decay.fill([] { return std::log(0.5); });
    frequency.fill_uniform(random, 0.0, 100.0);
    b.fill_normal(random);
    c.fill_normal(random);
    const S4dKernel parameters{.channels = channels,
                               .states = states,
                               .sets = 3,
                               .log_dt = log_dt.data(),
                               .log_decay = log_decay.data(),
                               .frequency = frequency.data(),
                               .b = b.data(),
                               .c = c.data()};
    Matrix z(2 * states, channels), w = z, x(rows, channels), y(rows, channels);
    x.fill_normal(random);
    s4d_scan_parameters(parameters, z.data(), w.data());
    const SequenceRows sequence{.first_row = 0, .rows = rows, .state = nullptr};
    s4d_scan(pool, {.channels = channels, .states = states, .z = z.data(), .w = w.data(), .d = nullptr}, x.in(),
             {&sequence, 1}, y.out());
    const WideMatrix wide[] = {WideMatrix(log_dt), WideMatrix(log_decay), WideMatrix(frequency),
                               WideMatrix(b),      WideMatrix(c),         WideMatrix(x)};
    WideMatrix expected(rows, channels);
    reference::s4d_steps({.channels = channels,
                          .states = states,
                          .sets = 3,
                          .log_dt = wide[0].data(),
                          .log_decay = wide[1].data(),
                          .frequency = wide[2].data(),
                          .b = wide[3].data(),
                          .c = wide[4].data()},
                         wide[5].in(), {&sequence, 1}, expected.out());
    for (std::int64_t t = 0; t < rows; ++t) {
      for (std::int64_t e = 0; e < channels; ++e) {
        ASSERT_NEAR(y.at(t, e), expected.at(t, e), 1e-6 * tests::largest_of(expected)) << "row " << t;
      }
    }
  });
}

// The loss is linear in all but z, in which it is a polynomial with a third derivative of about T^3 = 1e3: a step of
// 1e-5 leaves 1e-8 of that, and 1e-11 of rounding.
TEST(ScanS4d, ReferenceGradientsAreDifferencesOfTheLoss) {
  Random random(6);
  const Case c(11, 2, 3, random);
  Oracle o(c);
  const auto loss = [&] {
    o.forward();
    return tests::dot(o.dy, o.y) + tests::dot(o.dfinal, o.last);
  };
  o.backward();
  tests::expect_gradient_is_difference(o.x, o.dx, 1e-5, 1e-8, loss);
  tests::expect_gradient_is_difference(o.z, o.dz, 1e-5, 1e-7, loss);
  tests::expect_gradient_is_difference(o.w, o.dw, 1e-5, 1e-8, loss);
  tests::expect_gradient_is_difference(o.d, o.dd, 1e-5, 1e-8, loss);
  tests::expect_gradient_is_difference(o.initial, o.dinitial, 1e-5, 1e-8, loss);
}

}  // namespace
}  // namespace krait::kernels
