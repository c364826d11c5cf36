#include "krait/kernels/scan_delta.h"

#include "krait/kernels/reference/scan_delta.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::Expected;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;

struct Case {
  Matrix q, k, v, dt, beta, a, state;
  DeltaScan scan;

  Case(std::int64_t rows, std::int64_t key_heads, std::int64_t value_heads, std::int64_t keys, std::int64_t values,
       Random& random)
      : q(rows, key_heads * keys, 1, 1),
        k(rows, key_heads * keys, 3),
        v(rows, value_heads * values, 5, 1),
        dt(rows, value_heads, 2),
        beta(rows, value_heads),
        a(1, value_heads),
        state(value_heads * keys, values) {
    q.fill_normal(random, 1.0 / static_cast<double>(std::max<std::int64_t>(1, keys)));
    k.fill_normal(random);
    v.fill_normal(random);
    dt.fill_uniform(random, 0.01, 0.3);
    beta.fill_uniform(random, 0.0, 1.0);
    a.fill_uniform(random, -1.5, -0.2);
    state.fill_normal(random);
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t first = 0; first < key_heads * keys; first += keys) {
        double squares = 0.0;
        for (std::int64_t i = first; i < first + keys; ++i) squares += double{k.at(row, i)} * k.at(row, i);
        for (std::int64_t i = first; i < first + keys; ++i) {
          k.at(row, i) = static_cast<float>(k.at(row, i) / std::sqrt(squares));
        }
      }
    }
    scan = {
        .key_heads = key_heads, .value_heads = value_heads, .key_width = keys, .value_width = values, .a = a.data()};
  }
  Case(const Case&) = delete;

  DeltaScanInputs inputs() const { return {.q = q.in(), .k = k.in(), .v = v.in(), .dt = dt.in(), .beta = beta.in()}; }
  void run(ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& o) const {
    delta_scan(pool, scan, inputs(), sequences, o.out());
  }
};

// The oracle beside a bound of every element's error, carried through the recurrence with absolute values. With decay
// d (an exponential of a product: |a dt| + 2 roundings) an error E of S gives S^T k an error d (E^T |k|) and the
// roundings of a sum of Dk products, u that times beta and three more, and S a bound d E + |k| |u error|, with three
// roundings of its terms. Products of errors are covered by the hundredth on top.
struct Oracle {
  Expected o, o_bound;
  std::vector<double> state, state_bound;

  explicit Oracle(const Case& c)
      : o(c.v.rows(), c.v.columns()),
        o_bound(c.v.rows(), c.v.columns()),
        state(c.state.data(), c.state.data() + c.state.rows() * c.state.columns()),
        state_bound(state.size(), 0.0) {
    const std::int64_t keys = c.scan.key_width, values = c.scan.value_width;
    const double sum_roundings = kRounding * (static_cast<double>(keys) + 3.0);
    for (std::int64_t t = 0; t < c.v.rows(); ++t) {
      const std::vector<double> before = state;
      const DeltaScanInputs all = c.inputs();
      reference::delta_scan(c.scan,
                            {.q = all.q.slice_rows(t, 1),
                             .k = all.k.slice_rows(t, 1),
                             .v = all.v.slice_rows(t, 1),
                             .dt = all.dt.slice_rows(t, 1),
                             .beta = all.beta.slice_rows(t, 1)},
                            state, o.out().slice_rows(t, 1));
      for (std::int64_t h = 0; h < c.scan.value_heads; ++h) {
        const std::int64_t first_key = h / (c.scan.value_heads / c.scan.key_heads) * keys;
        const double exponent = double{c.a.at(0, h)} * double{c.dt.at(t, h)};
        const double decay = std::exp(exponent), decay_roundings = (std::fabs(exponent) + 2.0) * kRounding;
        const double beta = std::fabs(double{c.beta.at(t, h)});
        for (std::int64_t value = 0; value < values; ++value) {
          const auto at = [&](std::int64_t key) { return static_cast<std::size_t>((h * keys + key) * values + value); };
          const auto k = [&](std::int64_t key) { return std::fabs(double{c.k.at(t, first_key + key)}); };
          double known = 0.0, known_bound = 0.0;
          for (std::int64_t key = 0; key < keys; ++key) {
            known += decay * std::fabs(before[at(key)]) * k(key);
            known_bound += decay * state_bound[at(key)] * k(key);
          }
          known_bound += (sum_roundings + decay_roundings) * known;
          const double size = beta * (std::fabs(double{c.v.at(t, h * values + value)}) + known);
          const double u_bound = beta * known_bound + 3.0 * kRounding * size;
          double bound = 0.0;
          for (std::int64_t key = 0; key < keys; ++key) {
            const double terms = decay * std::fabs(before[at(key)]) + k(key) * size;
            double& error = state_bound[at(key)];
            error = 1.01 * (decay * error + k(key) * u_bound + (3.0 * kRounding + decay_roundings) * terms);
            bound +=
                (error + sum_roundings * std::fabs(state[at(key)])) * std::fabs(double{c.q.at(t, first_key + key)});
          }
          o_bound.out().row(t)[h * values + value] = 1.01 * bound;
        }
      }
    }
  }

  void expect(const Matrix& actual, const Matrix& actual_state) const {
    tests::expect_near(actual, o, [&](auto r, auto e) { return o_bound.at(r, e); });
    for (std::size_t i = 0; i < state.size(); ++i) {
      ASSERT_NEAR(actual_state.data()[i], state[i], state_bound[i] + tests::kTiny) << "state, at " << i;
    }
  }
};

void expect_matches_oracle(ThreadPool& pool, const Case& c) {
  const Oracle oracle(c);
  Matrix o(c.v.rows(), c.v.columns(), 3, 1), state = c.state;
  const SequenceRows sequence{.first_row = 0, .rows = c.v.rows(), .state = state.bytes()};
  c.run(pool, {&sequence, 1}, o);
  oracle.expect(o, state);
  o.check_gaps();
}

TEST(ScanDelta, MatchesOracleAtEveryWidth) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t values : tests::kLengths) {
      for (const std::int64_t rows : {0, 1, 2, 7}) {
        SCOPED_TRACE(::testing::Message() << "Dv " << values << ", " << rows << " rows");
        expect_matches_oracle(pool, Case(rows, 1, 2, 9, values, random));
      }
    }
  });
}

TEST(ScanDelta, MatchesOracleOverLongSequences) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(2);
    for (const std::int64_t width : {16, 37, 64}) expect_matches_oracle(pool, Case(200, 2, 4, width, width, random));
  });
}

// With beta 1 and no decay a key's value is replaced: what a second write reads back is its own.
TEST(ScanDelta, AWriteUnderTheSameKeyReplaces) {
  Random random(3);
  ThreadPool pool(1);
  Case c(2, 1, 1, 8, 20, random);
  for (std::int64_t i = 0; i < 8; ++i) {
    c.k.at(1, i) = c.k.at(0, i);
    c.q.at(0, i) = c.q.at(1, i) = c.k.at(0, i);
  }
  for (std::int64_t t = 0; t < 2; ++t) {
    c.dt.at(t, 0) = 0.0F;
    c.beta.at(t, 0) = 1.0F;
  }
  Matrix o(2, 20), state = c.state;
  const SequenceRows sequence{.first_row = 0, .rows = 2, .state = state.bytes()};
  c.run(pool, {&sequence, 1}, o);
  for (std::int64_t t = 0; t < 2; ++t) {
    for (std::int64_t i = 0; i < 20; ++i) EXPECT_NEAR(o.at(t, i), c.v.at(t, i), 64 * kRounding * 8.0);
  }
}

TEST(ScanDelta, AStrongDecayForgetsAll) {
  Random random(4);
  ThreadPool pool(1);
  Case c(1, 1, 1, 8, 20, random);
  c.a.at(0, 0) = -500.0F;
  c.dt.at(0, 0) = 1.0F;
  Matrix o(1, 20), state = c.state, empty(8, 20);
  const SequenceRows sequence{.first_row = 0, .rows = 1, .state = state.bytes()};
  c.run(pool, {&sequence, 1}, o);
  Matrix fresh(1, 20);
  const SequenceRows from_empty{.first_row = 0, .rows = 1, .state = empty.bytes()};
  c.run(pool, {&from_empty, 1}, fresh);
  tests::expect_same_bits(o, fresh);
  tests::expect_same_bits(state, empty);
}

TEST(ScanDelta, SplitAnywhereGivesTheSameBits) {
  on_every_target([&] {
    Random random(5);
    const Case c(23, 2, 4, 11, 20, random);
    tests::expect_a_cut_changes_no_bit(23, 80, c.state, [&](ThreadPool& pool, const SequenceRows& sequence, Matrix& y) {
      c.run(pool, {&sequence, 1}, y);
    });
  });
}

TEST(ScanDelta, SequencesOfABatchAndThreadsDoNotMatter) {
  on_every_target([&] {
    Random random(6);
    const Case c(60, 2, 4, 16, 24, random);
    tests::expect_sequences_and_threads_do_not_matter(
        96, c.state,
        [&](ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& o) { c.run(pool, sequences, o); });
  });
}

}  // namespace
}  // namespace krait::kernels
