// Gradients of the selective scan: the oracle against central differences and the authors' numbers, the kernel against
// the oracle and the same numbers.
#include "krait/kernels/scan_selective_backward.h"

#include <numeric>

#include "krait/kernels/reference/scan_selective_backward.h"
#include "tests/kernels/golden_tensors.h"
#include "tests/kernels/scan_backward_testing.h"
#include "tests/support/shared_data.h"

namespace krait::kernels {
namespace {

using reference::Terms;
using tests::cut;
using tests::draw;
using tests::Golden;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;
using tests::StridedFloats;
using tests::Tensor;
using tests::WideMatrix;

// What has a gradient; or those gradients.
struct Values {
  WideMatrix x, dt, b, c, z;  // [M, …]
  WideMatrix a, d, bias;      // [N, E], [1, E], [1, E]
  WideMatrix start;           // [sequences * N, E]
};
struct Part {
  const char* name;
  WideMatrix Values::* value;
};
constexpr Part kParts[] = {{"x", &Values::x}, {"dt", &Values::dt},     {"b", &Values::b},
                           {"c", &Values::c}, {"z", &Values::z},       {"a", &Values::a},
                           {"d", &Values::d}, {"bias", &Values::bias}, {"start", &Values::start}};

// Absent parts have no rows. The loss is sum(up y) + sum(up_last last states).
struct Case {
  Values in;
  WideMatrix up, up_last;
  std::vector<SequenceRows> sequences;
  std::int64_t states, groups;
  bool softplus = true;

  std::int64_t channels() const { return in.x.columns(); }
  template <class Real>
  SelectiveScanOf<Real> scan(const Real* a, const Real* d, const Real* bias) const {
    return {.channels = channels(),
            .states = states,
            .groups = groups,
            .a = a,
            .d = in.d.rows() > 0 ? d : nullptr,
            .dt_bias = in.bias.rows() > 0 ? bias : nullptr,
            .dt_softplus = softplus};
  }
  bool gated() const { return in.z.rows() > 0; }
};

Case random_case(const std::vector<std::int64_t>& lengths, std::int64_t channels, std::int64_t states,
                 std::int64_t groups, Random& random) {
  Case c{.in = {}, .up = {}, .up_last = {}, .sequences = {}, .states = states, .groups = groups};
  c.sequences = tests::in_a_row(lengths);
  const std::int64_t rows = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
  const auto count = static_cast<std::int64_t>(lengths.size());
  for (WideMatrix* m : {&c.in.x, &c.in.dt, &c.in.z, &c.up}) {
    *m = WideMatrix(rows, channels);
    draw(*m, random, -2.0, 2.0);
  }
  for (WideMatrix* m : {&c.in.b, &c.in.c}) {
    *m = WideMatrix(rows, groups * states);
    draw(*m, random, -1.5, 1.5);
  }
  c.in.a = WideMatrix(states, channels);
  draw(c.in.a, random, -8.0, -0.01);
  c.in.d = WideMatrix(1, channels);
  draw(c.in.d, random, -1.0, 1.0);
  c.in.bias = WideMatrix(1, channels);
  draw(c.in.bias, random, -5.0, -1.0);
  for (WideMatrix* m : {&c.in.start, &c.up_last}) {
    *m = WideMatrix(count * states, channels);
    draw(*m, random, -1.0, 1.0);
  }
  return c;
}

double loss(const Case& c) {
  const auto scan = c.scan(c.in.a.data(), c.in.d.data(), c.in.bias.data());
  WideMatrix y(c.up.rows(), c.up.columns()), last = c.in.start;
  const auto size = static_cast<std::size_t>(c.states * c.channels());
  for (std::size_t i = 0; i < c.sequences.size(); ++i) {
    const SequenceRows& s = c.sequences[i];
    reference::selective_scan(scan, cut(c.in.x.in(), s), cut(c.in.dt.in(), s), cut(c.in.b.in(), s), cut(c.in.c.in(), s),
                              cut(c.in.z.in(), s), std::span(last.values()).subspan(i * size, size), cut(y.out(), s));
  }
  return tests::inner_product(c.up, y) + tests::inner_product(c.up_last, last);
}

Values oracle(const Case& c, Terms terms = Terms::kSigned) {
  const auto scan = c.scan(c.in.a.data(), c.in.d.data(), c.in.bias.data());
  Values g = tests::zeros_like(kParts, c.in);
  const auto size = static_cast<std::size_t>(c.states * c.channels());
  for (std::size_t i = 0; i < c.sequences.size(); ++i) {
    const SequenceRows& s = c.sequences[i];
    reference::selective_scan_backward(
        scan,
        {.x = cut(c.in.x.in(), s),
         .dt = cut(c.in.dt.in(), s),
         .b = cut(c.in.b.in(), s),
         .c = cut(c.in.c.in(), s),
         .z = cut(c.in.z.in(), s)},
        std::span(c.in.start.values()).subspan(i * size, size), cut(c.up.in(), s),
        {.final_state = c.up_last.data() + i * size, .initial_state = g.start.data() + i * size},
        {.x = cut(g.x.out(), s),
         .dt = cut(g.dt.out(), s),
         .b = cut(g.b.out(), s),
         .c = cut(g.c.out(), s),
         .z = cut(g.z.out(), s),
         .a = g.a.data(),
         .d = g.d.data(),
         .dt_bias = g.bias.data()},
        terms);
  }
  return g;
}

Values kernel(ThreadPool& pool, const Case& c, bool reversed = false, std::vector<Matrix>* bits = nullptr) {
  StridedFloats x(c.in.x, 1, 1, reversed), dt(c.in.dt, 2, 0, reversed), b(c.in.b, 3, 0, reversed),
      cc(c.in.c, 5, 1, reversed);
  StridedFloats z(c.in.z, 1, 0, reversed), up(c.up, 4, 3, reversed), a(c.in.a, 0, 0), d(c.in.d, 0, 0),
      bias(c.in.bias, 0, 0);
  StridedFloats state(c.in.start, 0, 0), y(c.up, 0, 0), last(c.up_last, 0, 0);
  const SelectiveScan scan = c.scan<float>(a.data(), d.data(), bias.data());
  const auto size = static_cast<std::size_t>(c.states * c.channels());
  std::vector<SequenceRows> sequences = c.sequences;
  std::vector<SequenceGradients> ends;
  // Gradients of activations hold what nobody may read; those of parameters a number to be added to.
  Values nothing = tests::zeros_like(kParts, c.in);
  for (const Part& part : kParts) {
    for (double& v : (nothing.*part.value).values()) v = std::nan("");
  }
  for (WideMatrix* m : {&nothing.a, &nothing.d, &nothing.bias}) {
    for (double& v : m->values()) v = 0.0;
  }
  StridedFloats gx(nothing.x, 2, 1, reversed), gdt(nothing.dt, 0, 3, reversed), gb(nothing.b, 1, 1, reversed);
  StridedFloats gc(nothing.c, 2, 2, reversed), gz(nothing.z, 3, 1, reversed), ga(nothing.a, 0, 1), gd(nothing.d, 0, 1);
  StridedFloats gbias(nothing.bias, 0, 1), gstart(nothing.start, 0, 1);
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    sequences[i].state = state.state(i, size);
    ends.push_back({.final_state = last.data() + i * size, .initial_state = gstart.data() + i * size});
  }
  std::vector<float> borders(static_cast<std::size_t>(selective_chunks(sequences)) * size, std::nanf(""));
  selective_scan(pool, scan, x.in(), dt.in(), b.in(), cc.in(), z.in(), sequences, y.out(), borders.data());
  for (SequenceRows& sequence : sequences) sequence.state = nullptr;
  selective_scan_backward(pool, scan, {.x = x.in(), .dt = dt.in(), .b = b.in(), .c = cc.in(), .z = z.in()}, sequences,
                          borders.data(), up.in(), ends,
                          {.x = gx.out(),
                           .dt = gdt.out(),
                           .b = gb.out(),
                           .c = gc.out(),
                           .z = gz.out(),
                           .a = ga.data(),
                           .d = gd.data(),
                           .dt_bias = gbias.data()});
  for (const StridedFloats* m : {&gx, &gdt, &gb, &gc, &gz, &ga, &gd, &gbias, &gstart}) {
    m->matrix().check_gaps();
    if (bits != nullptr) bits->push_back(m->matrix());
  }
  return {.x = gx.widened(),
          .dt = gdt.widened(),
          .b = gb.widened(),
          .c = gc.widened(),
          .z = gz.widened(),
          .a = ga.widened(),
          .d = gd.widened(),
          .bias = gbias.widened(),
          .start = gstart.widened()};
}

// Errors of a gradient, relative to the same sums over absolute values with half the decay. As in the forward pass
// (scan_selective_test.cpp), the decays on the way of a term, from its input to where its gradient enters, count 5
// roundings a row, and 10 for what half the decay absorbs; dt, the gate, their slopes and the products some 50 more.
// Sums run over the states, the channels of a group or all rows of the case, one rounding for each term at most.
void expect_matches_oracle(ThreadPool& pool, const Case& c) {
  const Values expected = oracle(c), magnitude = oracle(c, Terms::kMagnitude), actual = kernel(pool, c);
  std::int64_t longest = 0;
  for (const SequenceRows& s : c.sequences) longest = std::max(longest, s.rows);
  const double factor = kRounding * static_cast<double>(5 * longest + c.states + c.channels() + c.in.x.rows() + 60);
  tests::expect_within(kParts, actual, expected, magnitude, factor);
}

TEST(ScanSelectiveBackward, OracleMatchesCentralDifferences) {
  for (int variant = 0; variant < 16; ++variant) {
    Random random(static_cast<std::uint64_t>(variant + 1));
    Case c = random_case({5, 1, 0, 7}, 6, 3, variant % 2 == 0 ? 1 : 3, random);
    draw(c.in.a, random, -2.0, -0.01);  // so that no derivative is large
    if (variant & 2) c.in.d = WideMatrix();
    if (variant & 4) c.in.z = WideMatrix();
    if (variant & 8) {
      c.softplus = false;
      draw(c.in.dt, random, 0.02, 0.4);
      c.in.bias = WideMatrix();
    }
    SCOPED_TRACE(::testing::Message() << "variant " << variant);
    tests::expect_central_differences(kParts, c, oracle(c), loss);
  }
}

TEST(ScanSelectiveBackward, MatchesOracleAtEveryLength) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t rows : {0, 1, 2, 31, 32, 33, 64, 70}) {
      for (const std::int64_t channels : {1, 5, 16, 37}) {
        SCOPED_TRACE(::testing::Message() << channels << " channels, " << rows << " rows");
        expect_matches_oracle(pool, random_case({rows}, channels, 6, 1, random));
      }
    }
    for (const std::int64_t channels : {15, 17, 32, 130, 257, 300}) {
      for (const std::int64_t states : {1, 3, 4, 16}) {
        SCOPED_TRACE(::testing::Message() << channels << " channels, " << states << " states");
        expect_matches_oracle(pool, random_case({9, 40}, channels, states, 1, random));
      }
    }
  });
}

TEST(ScanSelectiveBackward, GroupsAndManySequencesMatchOracle) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(2);
    for (const std::int64_t width : {1, 16, 65, 270}) {
      expect_matches_oracle(pool, random_case({9, 0, 35, 1}, 3 * width, 5, 3, random));
    }
    expect_matches_oracle(pool, random_case(std::vector<std::int64_t>(37, 3), 20, 8, 2, random));
  });
}

TEST(ScanSelectiveBackward, OptionalPartsMayBeAbsent) {
  ThreadPool pool(1);
  on_every_target([&] {
    for (int absent = 0; absent < 16; ++absent) {
      Random random(3);
      Case c = random_case({33, 12}, 21, 16, 1, random);
      if (absent & 1) c.in.d = WideMatrix();
      if (absent & 2) c.in.bias = WideMatrix();
      if (absent & 4) c.in.z = WideMatrix();
      if (absent & 8) {
        c.softplus = false;
        draw(c.in.dt, random, 0.0, 0.2);
        c.in.bias = WideMatrix();
      }
      expect_matches_oracle(pool, c);
    }
  });
}

TEST(ScanSelectiveBackward, ThreadsAndReversedRowsChangeNoBit) {
  on_every_target([&] {
    Random random(4);
    const Case c = random_case({40, 1, 0, 65, 7}, 600, 16, 2, random);
    tests::expect_threads_and_reversal_change_no_bit(
        kParts,
        [&](ThreadPool& pool, bool reversed, std::vector<Matrix>* bits) { return kernel(pool, c, reversed, bits); });
  });
}

TEST(ScanSelectiveBackward, GradientsMayTakeThePlaceOfInputsAndAddUp) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(5);
    const Case c = random_case({50}, 40, 16, 1, random);
    const Values apart = kernel(pool, c);
    StridedFloats x(c.in.x, 0, 0), dt(c.in.dt, 0, 0), b(c.in.b, 0, 0), cc(c.in.c, 0, 0), z(c.in.z, 0, 0),
        up(c.up, 0, 0);
    StridedFloats a(c.in.a, 0, 0), d(c.in.d, 0, 0), bias(c.in.bias, 0, 0), state(c.in.start, 0, 0), y(c.up, 0, 0);
    StridedFloats gb(c.in.b, 0, 0), gc(c.in.c, 0, 0), gd(c.in.d, 0, 0);
    const SelectiveScan scan = c.scan<float>(a.data(), d.data(), bias.data());
    const SequenceRows sequence{.first_row = 0, .rows = 50, .state = state.state(0, 0)};
    std::vector<float> borders(static_cast<std::size_t>(2 * 16 * 40));
    selective_scan(pool, scan, x.in(), dt.in(), b.in(), cc.in(), z.in(), {&sequence, 1}, y.out(), borders.data());
    // dz stands in z, dx in dy, d dt in dt; no gradient of a state comes in or is wanted, of A and the bias neither.
    Case without = c;
    for (double& v : without.up_last.values()) v = 0.0;
    const Values expected = kernel(pool, without);
    selective_scan_backward(pool, scan, {.x = x.in(), .dt = dt.in(), .b = b.in(), .c = cc.in(), .z = z.in()},
                            {&sequence, 1}, borders.data(), up.in(), {},
                            {.x = up.out(),
                             .dt = dt.out(),
                             .b = gb.out(),
                             .c = gc.out(),
                             .z = z.out(),
                             .a = nullptr,
                             .d = gd.data(),
                             .dt_bias = nullptr});
    EXPECT_EQ(up.widened().values(), expected.x.values());
    EXPECT_EQ(dt.widened().values(), expected.dt.values());
    EXPECT_EQ(z.widened().values(), expected.z.values());
    EXPECT_EQ(gb.widened().values(), expected.b.values());
    EXPECT_EQ(gc.widened().values(), expected.c.values());
    for (std::int64_t e = 0; e < 40; ++e) {
      const float added = static_cast<float>(c.in.d.at(0, e)) + static_cast<float>(expected.d.at(0, e));
      ASSERT_EQ(gd.widened().at(0, e), added);
    }
    EXPECT_EQ(apart.d.values(), expected.d.values());  // D does not see the state
  });
}

TEST(ScanSelectiveBackward, BordersAreStatesOnTheWayAndChangeNoResult) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(6);
    const Case c = random_case({70, 0, 1}, 150, 6, 2, random);
    StridedFloats x(c.in.x, 0, 0), dt(c.in.dt, 0, 0), b(c.in.b, 0, 0), cc(c.in.c, 0, 0), z(c.in.z, 0, 0);
    StridedFloats a(c.in.a, 0, 0), d(c.in.d, 0, 0), bias(c.in.bias, 0, 0);
    const SelectiveScan scan = c.scan<float>(a.data(), d.data(), bias.data());
    const auto run = [&](std::int64_t rows, StridedFloats& state, StridedFloats& y, float* borders) {
      std::vector<SequenceRows> sequences = c.sequences;
      sequences[0].rows = rows;
      for (std::size_t i = 0; i < sequences.size(); ++i) {
        sequences[i].state = state.state(i, 900);
      }
      selective_scan(pool, scan, x.in(), dt.in(), b.in(), cc.in(), z.in(), sequences, y.out(), borders);
    };
    ASSERT_EQ(selective_chunks(c.sequences), 4);
    std::vector<float> borders(4 * 900, std::nanf(""));
    StridedFloats with(c.in.start, 0, 0), without(c.in.start, 0, 0), y(c.up, 0, 0), plain(c.up, 0, 0);
    run(70, with, y, borders.data());
    run(70, without, plain, nullptr);
    tests::expect_same_bits(with.matrix(), without.matrix());
    for (std::int64_t r = 0; r < 70; ++r) {  // a single row may go another way without borders
      for (std::int64_t e = 0; e < 150; ++e) ASSERT_EQ(y.matrix().at(r, e), plain.matrix().at(r, e));
    }
    for (const std::int64_t chunk : {0, 1, 2}) {
      StridedFloats state(c.in.start, 0, 0);
      run(chunk * kSelectiveChunk, state, plain, nullptr);
      for (std::size_t i = 0; i < 900; ++i) {
        ASSERT_EQ(borders[static_cast<std::size_t>(chunk) * 900 + i], state.data()[i]) << "chunk " << chunk;
      }
    }
    for (std::size_t i = 0; i < 900; ++i) {
      ASSERT_EQ(borders[3 * 900 + i], static_cast<float>(c.in.start.values()[2 * 900 + i]));
    }
  });
}

// A golden case as rows of all batch entries one after the other, and its gradients laid out likewise.
struct GoldenCase {
  Case c;
  Values expected;
};

GoldenCase read_case(const Golden& golden, std::string_view side, bool softplus) {
  const auto name = [&](std::string_view kind, std::string_view what) {
    const bool shared = what == "u" || what == "z" || side.empty();
    std::string key(kind);
    key.append(".").append(what);
    if (!shared) key.append(".").append(side);
    return key;
  };
  const Tensor u = golden.read("in.u"), a = golden.read(name("in", "A")), b = golden.read(name("in", "B"));
  const std::int64_t batch = u.size(0), channels = u.size(1), length = u.size(2), states = a.size(1);
  const bool constant = b.shape.size() == 2;  // over time: a group for every channel
  const std::int64_t groups = constant ? channels : b.size(1);
  GoldenCase result;
  Case& c = result.c;
  c.states = states;
  c.groups = groups;
  c.softplus = softplus;
  const tests::BatchSegments batches(golden, batch, length);
  c.sequences = batches.sequences;
  const auto rows_of = [&](const std::string& key) {
    WideMatrix m(batch * length, channels);
    const Tensor tensor = golden.read(key);
    for (std::int64_t r = 0; r < m.rows(); ++r) {
      for (std::int64_t e = 0; e < channels; ++e) m.at(r, e) = tensor.at({r / length, e, r % length});
    }
    return m;
  };
  const auto grouped = [&](const std::string& key) {
    WideMatrix m(batch * length, groups * states);
    const Tensor tensor = golden.read(key);
    for (std::int64_t r = 0; r < m.rows(); ++r) {
      for (std::int64_t i = 0; i < m.columns(); ++i) {
        m.at(r, i) = constant ? tensor.at({i / states, i % states})
                              : tensor.at({r / length, i / states, i % states, r % length});
      }
    }
    return m;
  };
  const auto vector = [&](const std::string& key) {
    WideMatrix m(1, channels);
    m.values() = golden.read(key).values;
    return m;
  };
  const auto states_of = [&](const std::string& key) {
    WideMatrix m(static_cast<std::int64_t>(c.sequences.size()) * states, channels);
    if (!golden.has(key)) return m;
    const Tensor tensor = golden.read(key);
    for (std::int64_t n = 0; n < batch; ++n) {
      for (std::int64_t s = 0; s < states; ++s) {
        for (std::int64_t e = 0; e < channels; ++e) {
          m.at(batches.last[static_cast<std::size_t>(n)] * states + s, e) = tensor.at({n, e, s});
        }
      }
    }
    return m;
  };
  const auto rates = [&](const std::string& key) {
    WideMatrix m(states, channels);
    const Tensor tensor = golden.read(key);
    for (std::int64_t s = 0; s < states; ++s) {
      for (std::int64_t e = 0; e < channels; ++e) m.at(s, e) = tensor.at({e, s});
    }
    return m;
  };
  const auto fill = [&](Values& v, std::string_view kind) {
    v.x = rows_of(name(kind, "u"));
    v.dt = rows_of(name(kind, "delta"));
    v.b = grouped(name(kind, "B"));
    v.c = grouped(name(kind, "C"));
    v.a = rates(name(kind, "A"));
    if (golden.has("in.z")) v.z = rows_of(name(kind, "z"));
    if (golden.has(name("in", "D"))) v.d = vector(name(kind, "D"));
    if (golden.has(name("in", "delta_bias"))) v.bias = vector(name(kind, "delta_bias"));
    if (kind == "in" || golden.has("grad.state0")) v.start = states_of(name(kind, "state0"));
  };
  fill(c.in, "in");
  fill(result.expected, "grad");
  c.up = rows_of("up.y");
  c.up_last = states_of("up.last_state");
  return result;
}

void expect_golden(Values actual, const GoldenCase& golden, double tolerance) {
  // B and C constant over time are equal rows here: their gradient is the sum of the rows'.
  if (golden.c.groups == golden.c.channels()) {
    for (WideMatrix* m : {&actual.b, &actual.c}) {
      for (std::int64_t i = 0; i < m->columns(); ++i) {
        double sum = 0.0;
        for (std::int64_t r = 0; r < m->rows(); ++r) sum += m->at(r, i);
        for (std::int64_t r = 0; r < m->rows(); ++r) m->at(r, i) = sum;
      }
    }
  }
  tests::expect_relative(kParts, actual, golden.expected, tolerance);
}

class GoldenSelectiveBackward : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenSelectiveBackward, OracleAndKernelAgree) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const std::string_view name = GetParam();
  const Golden golden(tests::file_of(path, GetParam()));
  const GoldenCase g = read_case(golden, "", name.find("plain") == std::string_view::npos);
  expect_golden(oracle(g.c), g, tests::kOracleTolerance);
  ThreadPool pool(2);
  on_every_target([&] { expect_golden(kernel(pool, g.c), g, tests::kKernelTolerance); });
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenSelectiveBackward,
                         ::testing::Values("sel_L129_N16_G2_full", "sel_L129_N8_z_noD", "sel_L1_N16_full",
                                           "sel_L64_N16_constBC", "sel_L64_N16_initial", "sel_L64_N16_plain",
                                           "sel_L64_N8_noz", "sel_L7_N16_G2_full", "sel_L7_N8_initial", "sel_packed"));

// Two scans, one of them over the rows backwards, both gated by the same z: the gate distributes over their sum, and
// the gradients of what they share add up.
TEST(GoldenSelectiveBothWaysBackward, BidirectionalIsTwoScansOneOverRowsBackwards) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const Golden golden(tests::file_of(path, "sel_bidirectional"));
  const GoldenCase forward = read_case(golden, "fwd", true), natural = read_case(golden, "bwd", true);
  // The other one's rows from the last: batch entries come in the other order too.
  const auto turned = [](const Values& v) {
    Values result = v;
    for (WideMatrix Values::* m : {&Values::x, &Values::dt, &Values::b, &Values::c, &Values::z}) {
      for (std::int64_t r = 0; r < (v.*m).rows(); ++r) {
        for (std::int64_t i = 0; i < (v.*m).columns(); ++i) (result.*m).at(r, i) = (v.*m).at((v.*m).rows() - 1 - r, i);
      }
    }
    return result;
  };
  Case backward = natural.c;
  backward.in = turned(natural.c.in);
  for (std::int64_t r = 0; r < backward.up.rows(); ++r) {
    for (std::int64_t e = 0; e < backward.up.columns(); ++e) {
      backward.up.at(r, e) = natural.c.up.at(backward.up.rows() - 1 - r, e);
    }
  }
  const auto check = [&](const Values& f, const Values& b, double tolerance) {
    const Values back = turned(b);
    Values first = f, second = back;
    for (WideMatrix Values::* m : {&Values::x, &Values::z}) {
      for (std::size_t i = 0; i < (f.*m).values().size(); ++i) {
        (first.*m).values()[i] += (back.*m).values()[i];
      }
      second.*m = first.*m;
    }
    expect_golden(first, forward, tolerance);
    expect_golden(second, natural, tolerance);
  };
  check(oracle(forward.c), oracle(backward), tests::kOracleTolerance);
  ThreadPool pool(2);
  on_every_target([&] { check(kernel(pool, forward.c), kernel(pool, backward, true), tests::kKernelTolerance); });
}

}  // namespace
}  // namespace krait::kernels
