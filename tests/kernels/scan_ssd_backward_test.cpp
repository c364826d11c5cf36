// Gradients of the SSD scan: the oracle against central differences and the authors' numbers, the kernel against the
// oracle and the same numbers. Where those are gated, the gate is taken here.
#include "krait/kernels/scan_ssd_backward.h"

#include <numeric>

#include "krait/kernels/reference/scan_ssd_backward.h"
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
  WideMatrix x, dt, b, c, z;  // [M, …]; z is absent but in gated cases
  WideMatrix a, d, bias;      // [1, H], [1, H] or [1, H*P], [1, H]
  WideMatrix start;           // [sequences * H * N, P]
};
using Part = tests::GradientPart<Values>;
constexpr Part kParts[] = {{"x", &Values::x}, {"dt", &Values::dt},     {"b", &Values::b},
                           {"c", &Values::c}, {"z", &Values::z},       {"a", &Values::a},
                           {"d", &Values::d}, {"bias", &Values::bias}, {"start", &Values::start}};

// Absent parts have no rows. The loss is sum(up y) + sum(up_last last states).
struct Case {
  Values in;
  WideMatrix up, up_last;
  std::vector<SequenceRows> sequences;
  std::int64_t states, groups, chunk;
  double dt_low = 0.0, dt_high = std::numeric_limits<double>::infinity();

  std::int64_t heads() const { return in.a.columns(); }
  std::int64_t width() const { return heads() == 0 ? 0 : in.x.columns() / heads(); }
  std::int64_t state_size() const { return in.x.columns() * states; }
  template <class Real>
  SsdScanOf<Real> scan(const Real* a, const Real* d, const Real* bias) const {
    return {.heads = heads(),
            .head_width = width(),
            .states = states,
            .groups = groups,
            .chunk = chunk,
            .a = a,
            .d = in.d.rows() > 0 ? d : nullptr,
            .d_per_channel = in.d.columns() > heads(),
            .dt_bias = in.bias.rows() > 0 ? bias : nullptr,
            .dt_low = static_cast<Real>(dt_low),
            .dt_high = static_cast<Real>(dt_high)};
  }
};

struct Shape {
  std::int64_t heads, width, states, groups, chunk;
  bool d_per_channel = false;
};

Case random_case(const std::vector<std::int64_t>& lengths, const Shape& shape, Random& random) {
  Case c{.in = {},
         .up = {},
         .up_last = {},
         .sequences = {},
         .states = shape.states,
         .groups = shape.groups,
         .chunk = shape.chunk};
  c.sequences = tests::in_a_row(lengths);
  const std::int64_t rows = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
  const auto fill = [&](WideMatrix& m, std::int64_t m_rows, std::int64_t columns, double low, double high) {
    m = WideMatrix(m_rows, columns);
    draw(m, random, low, high);
  };
  const std::int64_t channels = shape.heads * shape.width;
  const std::int64_t state_rows = static_cast<std::int64_t>(lengths.size()) * shape.heads * shape.states;
  fill(c.in.x, rows, channels, -2.0, 2.0);
  fill(c.up, rows, channels, -2.0, 2.0);
  fill(c.in.dt, rows, shape.heads, -2.0, 2.0);
  fill(c.in.b, rows, shape.groups * shape.states, -1.5, 1.5);
  fill(c.in.c, rows, shape.groups * shape.states, -1.5, 1.5);
  fill(c.in.a, 1, shape.heads, -8.0, -0.01);
  fill(c.in.d, 1, shape.d_per_channel ? channels : shape.heads, -1.0, 1.0);
  fill(c.in.bias, 1, shape.heads, -5.0, -1.0);
  fill(c.in.start, state_rows, shape.width, -1.0, 1.0);
  fill(c.up_last, state_rows, shape.width, -1.0, 1.0);
  return c;
}

// The last states are left in `last`.
WideMatrix outputs(const Case& c, WideMatrix& last) {
  const auto scan = c.scan(c.in.a.data(), c.in.d.data(), c.in.bias.data());
  WideMatrix y(c.up.rows(), c.up.columns());
  last = c.in.start;
  const auto size = static_cast<std::size_t>(c.state_size());
  for (std::size_t i = 0; i < c.sequences.size(); ++i) {
    const SequenceRows& s = c.sequences[i];
    reference::ssd_scan(scan, cut(c.in.x.in(), s), cut(c.in.dt.in(), s), cut(c.in.b.in(), s), cut(c.in.c.in(), s),
                        std::span(last.values()).subspan(i * size, size), cut(y.out(), s));
  }
  return y;
}

double loss(const Case& c) {
  WideMatrix last;
  const WideMatrix y = outputs(c, last);
  return tests::inner_product(c.up, y) + tests::inner_product(c.up_last, last);
}

// The gradient of y before the gate, and that of z.
WideMatrix through_the_gate(const Case& c, const WideMatrix& y, WideMatrix& to_z) {
  WideMatrix up = c.up;
  for (std::size_t i = 0; i < c.in.z.values().size(); ++i) {
    const double z = c.in.z.values()[i];
    to_z.values()[i] = up.values()[i] * y.values()[i] * reference::silu_slope(z);
    up.values()[i] *= reference::silu(z);
  }
  return up;
}

Values oracle(const Case& c, Terms terms = Terms::kSigned) {
  const auto scan = c.scan(c.in.a.data(), c.in.d.data(), c.in.bias.data());
  Values g = tests::zeros_like(kParts, c.in);
  WideMatrix last;
  const WideMatrix up = through_the_gate(c, outputs(c, last), g.z);
  const auto size = static_cast<std::size_t>(c.state_size());
  for (std::size_t i = 0; i < c.sequences.size(); ++i) {
    const SequenceRows& s = c.sequences[i];
    reference::ssd_scan_backward(
        scan,
        {.x = cut(c.in.x.in(), s), .dt = cut(c.in.dt.in(), s), .b = cut(c.in.b.in(), s), .c = cut(c.in.c.in(), s)},
        std::span(c.in.start.values()).subspan(i * size, size), cut(up.in(), s),
        {.final_state = c.up_last.data() + i * size, .initial_state = g.start.data() + i * size},
        {.x = cut(g.x.out(), s),
         .dt = cut(g.dt.out(), s),
         .b = cut(g.b.out(), s),
         .c = cut(g.c.out(), s),
         .a = g.a.data(),
         .d = g.d.data(),
         .dt_bias = g.bias.data()},
        terms);
  }
  return g;
}

Values kernel(ThreadPool& pool, const Case& c, bool reversed = false, std::vector<Matrix>* bits = nullptr) {
  StridedFloats x(c.in.x, 1, 1, reversed), dt(c.in.dt, 2, 0, reversed), b(c.in.b, 3, 0, reversed);
  StridedFloats cc(c.in.c, 5, 1, reversed), y(c.up, 0, 0, reversed);
  StridedFloats a(c.in.a, 0, 0), d(c.in.d, 0, 0), bias(c.in.bias, 0, 0);
  StridedFloats state(c.in.start, 0, 0), last(c.up_last, 0, 0);
  const SsdScan scan = c.scan<float>(a.data(), d.data(), bias.data());
  const auto size = static_cast<std::size_t>(c.state_size());
  std::vector<SequenceRows> sequences = c.sequences;
  std::vector<SequenceGradients> ends;
  // Gradients of activations hold what nobody may read; those of parameters are added to zero.
  Values nothing = tests::zeros_like(kParts, c.in);
  for (WideMatrix* m : {&nothing.x, &nothing.dt, &nothing.b, &nothing.c, &nothing.start}) {
    for (double& v : m->values()) v = std::nan("");
  }
  StridedFloats gx(nothing.x, 2, 1, reversed), gdt(nothing.dt, 0, 3, reversed), gb(nothing.b, 1, 1, reversed);
  StridedFloats gc(nothing.c, 2, 2, reversed), ga(nothing.a, 0, 1), gd(nothing.d, 0, 1), gbias(nothing.bias, 0, 1);
  StridedFloats gstart(nothing.start, 0, 1);
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    sequences[i].state = state.state(i, size);
    ends.push_back({.final_state = last.data() + i * size, .initial_state = gstart.data() + i * size});
  }
  std::vector<float> borders(static_cast<std::size_t>(ssd_chunk_count(c.chunk, sequences)) * size, std::nanf(""));
  ssd_scan(pool, scan, x.in(), dt.in(), b.in(), cc.in(), sequences, y.out(), borders.data());
  for (SequenceRows& sequence : sequences) sequence.state = nullptr;
  WideMatrix to_z = nothing.z;
  StridedFloats up(through_the_gate(c, y.widened(), to_z), 4, 3, reversed);
  ssd_scan_backward(pool, scan, {.x = x.in(), .dt = dt.in(), .b = b.in(), .c = cc.in()}, sequences, borders.data(),
                    up.in(), ends,
                    {.x = gx.out(),
                     .dt = gdt.out(),
                     .b = gb.out(),
                     .c = gc.out(),
                     .a = ga.data(),
                     .d = gd.data(),
                     .dt_bias = gbias.data()});
  for (const StridedFloats* m : {&gx, &gdt, &gb, &gc, &ga, &gd, &gbias, &gstart}) {
    m->matrix().check_gaps();
    if (bits != nullptr) bits->push_back(m->matrix());
  }
  return {.x = gx.widened(),
          .dt = gdt.widened(),
          .b = gb.widened(),
          .c = gc.widened(),
          .z = to_z,
          .a = ga.widened(),
          .d = gd.widened(),
          .bias = gbias.widened(),
          .start = gstart.widened()};
}

// Errors of a gradient, relative to the same sums over absolute values with half the decay. As in the forward pass
// (scan_ssd_test.cpp), the decays on the way of a term, from its input to where its gradient enters, count 5 roundings
// a row, and 10 for what half the decay absorbs; dt, its slope and the products some 50 more. Sums run over the states,
// the channels of all heads or all rows of the case, one rounding for each term at most.
void expect_matches_oracle(ThreadPool& pool, const Case& c) {
  std::int64_t longest = 0;
  for (const SequenceRows& s : c.sequences) longest = std::max(longest, s.rows);
  const double factor = kRounding * static_cast<double>(5 * longest + c.states + c.in.x.columns() + c.in.x.rows() + 60);
  tests::expect_within(kParts, kernel(pool, c), oracle(c), oracle(c, Terms::kMagnitude), factor);
}

// Limits of dt that no row is nearer to than `gap`: beyond a limit the derivative is another.
void limit_steps(Case& c, double low, double high, double gap) {
  c.dt_low = low;
  c.dt_high = high;
  for (std::int64_t t = 0; t < c.in.dt.rows(); ++t) {
    for (std::int64_t h = 0; h < c.heads(); ++h) {
      double& raw = c.in.dt.at(t, h);
      const auto near = [&] {
        const double step = reference::softplus(raw + (c.in.bias.rows() > 0 ? c.in.bias.at(0, h) : 0.0));
        return std::min(std::fabs(step - low), std::fabs(step - high)) < gap;
      };
      while (near()) raw += 0.125;
    }
  }
}

TEST(ScanSsdBackward, OracleMatchesCentralDifferences) {
  for (int variant = 0; variant < 16; ++variant) {
    SCOPED_TRACE(::testing::Message() << "variant " << variant);
    Random random(static_cast<std::uint64_t>(variant + 1));
    const Shape shape{.heads = 4,
                      .width = 3,
                      .states = 3,
                      .groups = variant % 2 + 1,
                      .chunk = 4,
                      .d_per_channel = (variant & 2) != 0};
    Case c = random_case({5, 1, 0, 7}, shape, random);
    draw(c.in.a, random, -2.0, -0.01);  // so that no derivative is large
    if (variant & 4) c.in.bias = WideMatrix();
    if (variant & 8) limit_steps(c, 0.05, 0.2, 0.01);
    if (variant == 15) c.in.d = WideMatrix();
    tests::expect_central_differences(kParts, c, oracle(c), loss);
  }
}

TEST(ScanSsdBackward, MatchesOracleAtEveryLengthAndHeadWidth) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t rows : {0, 1, 2, 15, 16, 17, 32, 40}) {
      for (const std::int64_t width : {1, 7, 16, 33}) {
        SCOPED_TRACE(::testing::Message() << "P " << width << ", " << rows << " rows");
        expect_matches_oracle(
            pool, random_case({rows}, {.heads = 2, .width = width, .states = 17, .groups = 1, .chunk = 16}, random));
      }
    }
  });
}

TEST(ScanSsdBackward, MatchesOracleAtEveryStateSizeChunkAndGroup) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(2);
    for (const std::int64_t states : {1, 3, 16, 66}) {
      for (const std::int64_t chunk : {1, 5, 16, 64, 100}) {
        SCOPED_TRACE(::testing::Message() << "N " << states << ", chunk " << chunk);
        expect_matches_oracle(
            pool,
            random_case({70, 3}, {.heads = 6, .width = 16, .states = states, .groups = 3, .chunk = chunk}, random));
      }
    }
    for (const std::int64_t heads : {7, 13, 26}) {  // several tasks of a group
      expect_matches_oracle(
          pool, random_case({20, 0, 9, 1}, {.heads = heads, .width = 8, .states = 8, .groups = 1, .chunk = 8}, random));
    }
  });
}

TEST(ScanSsdBackward, OptionalPartsAndLimits) {
  ThreadPool pool(2);
  on_every_target([&] {
    for (int variant = 0; variant < 16; ++variant) {
      Random random(3);
      Case c = random_case(
          {23, 8}, {.heads = 4, .width = 9, .states = 8, .groups = 2, .chunk = 8, .d_per_channel = (variant & 1) != 0},
          random);
      if (variant & 2) c.in.d = WideMatrix();
      if (variant & 4) c.in.bias = WideMatrix();
      if (variant & 8) limit_steps(c, 0x1p-4, 0x1p-2, 1e-3);
      expect_matches_oracle(pool, c);
    }
  });
}

// Where everything decays within a row, products above the diagonal and past a chunk's end overflow, and the gradients
// of dt and A are as small as the decays: a difference of large sums would lose them.
TEST(ScanSsdBackward, FastDecayOverLongChunksStaysFinite) {
  ThreadPool pool(1);
  on_every_target([&] {
    Random random(4);
    Case c = random_case({150}, {.heads = 2, .width = 16, .states = 5, .groups = 1, .chunk = 128}, random);
    draw(c.in.dt, random, 15.0, 25.0);
    draw(c.in.a, random, -20.0, -10.0);
    c.in.bias = WideMatrix();
    expect_matches_oracle(pool, c);
    draw(c.in.dt, random, 0.9, 1.1);
    draw(c.in.a, random, -12.0, -10.0);
    expect_matches_oracle(pool, c);
  });
}

TEST(ScanSsdBackward, ThreadsAndReversedRowsChangeNoBit) {
  on_every_target([&] {
    Random random(5);
    const Case c =
        random_case({40, 1, 0, 65, 7}, {.heads = 26, .width = 20, .states = 12, .groups = 2, .chunk = 16}, random);
    tests::expect_threads_and_reversal_change_no_bit(
        kParts,
        [&](ThreadPool& pool, bool reversed, std::vector<Matrix>* bits) { return kernel(pool, c, reversed, bits); });
  });
}

TEST(ScanSsdBackward, WithoutStatesAndUnwantedParametersAddUp) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(6);
    Case c = random_case({20, 9}, {.heads = 4, .width = 8, .states = 6, .groups = 1, .chunk = 8}, random);
    for (double& v : c.up_last.values()) v = 0.0;
    const Values expected = kernel(pool, c);
    StridedFloats x(c.in.x, 0, 0), dt(c.in.dt, 0, 0), b(c.in.b, 0, 0), cc(c.in.c, 0, 0), up(c.up, 0, 0), y(c.up, 0, 0);
    StridedFloats a(c.in.a, 0, 0), d(c.in.d, 0, 0), bias(c.in.bias, 0, 0), state(c.in.start, 0, 0);
    StridedFloats gx(c.in.x, 0, 0), gdt(c.in.dt, 0, 0), gb(c.in.b, 0, 0), gc(c.in.c, 0, 0), gd(c.in.d, 0, 0);
    const SsdScan scan = c.scan<float>(a.data(), d.data(), bias.data());
    std::vector<SequenceRows> sequences = c.sequences;
    for (std::size_t i = 0; i < 2; ++i) {
      sequences[i].state = state.state(i, static_cast<std::size_t>(c.state_size()));
    }
    std::vector<float> borders(static_cast<std::size_t>(5 * c.state_size()));
    ssd_scan(pool, scan, x.in(), dt.in(), b.in(), cc.in(), sequences, y.out(), borders.data());
    ssd_scan_backward(pool, scan, {.x = x.in(), .dt = dt.in(), .b = b.in(), .c = cc.in()}, sequences, borders.data(),
                      up.in(), {},
                      {.x = gx.out(),
                       .dt = gdt.out(),
                       .b = gb.out(),
                       .c = gc.out(),
                       .a = nullptr,
                       .d = gd.data(),
                       .dt_bias = nullptr});
    EXPECT_EQ(gx.widened().values(), expected.x.values());
    EXPECT_EQ(gdt.widened().values(), expected.dt.values());
    EXPECT_EQ(gb.widened().values(), expected.b.values());
    EXPECT_EQ(gc.widened().values(), expected.c.values());
    for (std::int64_t h = 0; h < 4; ++h) {  // two sums, of one sequence each, are added one after the other
      ASSERT_NEAR(gd.widened().at(0, h), c.in.d.at(0, h) + expected.d.at(0, h),
                  4 * kRounding * (std::fabs(c.in.d.at(0, h)) + 2 * oracle(c, Terms::kMagnitude).d.at(0, h)));
    }
  });
}

TEST(ScanSsdBackward, BordersAreStatesOnTheWayAndChangeNoResult) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(7);
    const Case c = random_case({21, 1}, {.heads = 3, .width = 20, .states = 6, .groups = 1, .chunk = 8}, random);
    const auto size = static_cast<std::size_t>(c.state_size());
    StridedFloats x(c.in.x, 0, 0), dt(c.in.dt, 0, 0), b(c.in.b, 0, 0), cc(c.in.c, 0, 0);
    StridedFloats a(c.in.a, 0, 0), d(c.in.d, 0, 0), bias(c.in.bias, 0, 0);
    const SsdScan scan = c.scan<float>(a.data(), d.data(), bias.data());
    const auto run = [&](std::int64_t rows, StridedFloats& state, StridedFloats& y, float* borders) {
      std::vector<SequenceRows> sequences = c.sequences;
      sequences[0].rows = rows;
      for (std::size_t i = 0; i < 2; ++i) {
        sequences[i].state = state.state(i, size);
      }
      ssd_scan(pool, scan, x.in(), dt.in(), b.in(), cc.in(), sequences, y.out(), borders);
    };
    ASSERT_EQ(ssd_chunk_count(8, c.sequences), 4);
    std::vector<float> borders(4 * size, std::nanf(""));
    StridedFloats with(c.in.start, 0, 0), without(c.in.start, 0, 0), y(c.up, 0, 0), plain(c.up, 0, 0);
    run(21, with, y, borders.data());
    run(21, without, plain, nullptr);
    for (std::int64_t r = 0; r < 21; ++r) {  // a single row goes another way without borders
      for (std::int64_t i = 0; i < 60; ++i) ASSERT_EQ(y.matrix().at(r, i), plain.matrix().at(r, i));
    }
    for (std::size_t i = 0; i < size; ++i) ASSERT_EQ(with.data()[i], without.data()[i]);
    for (const std::int64_t chunk : {0, 1, 2}) {
      StridedFloats state(c.in.start, 0, 0);
      run(chunk * 8, state, plain, nullptr);
      for (std::size_t i = 0; i < size; ++i) {
        ASSERT_EQ(borders[static_cast<std::size_t>(chunk) * size + i], state.data()[i]) << "chunk " << chunk;
      }
    }
    for (std::size_t i = 0; i < size; ++i) {
      ASSERT_EQ(borders[3 * size + i], static_cast<float>(c.in.start.values()[size + i]));
    }
  });
}

// A golden case as rows of all batch entries one after the other, and its gradients laid out likewise.
struct GoldenCase {
  Case c;
  Values expected;
};

GoldenCase read_case(const Golden& golden, bool limited) {
  const Tensor x = golden.read("in.x"), b = golden.read("in.B"), d = golden.read("in.D");
  const std::int64_t batch = x.size(0), length = x.size(1), heads = x.size(2), width = x.size(3);
  const std::int64_t groups = b.size(2), states = b.size(3);
  GoldenCase result{
      .c = {.in = {}, .up = {}, .up_last = {}, .sequences = {}, .states = states, .groups = groups, .chunk = 16},
      .expected = {}};
  Case& c = result.c;
  if (limited) {
    c.dt_low = 0.05;
    c.dt_high = 0.2;
  }
  const tests::BatchSegments batches(golden, batch, length);
  c.sequences = batches.sequences;
  // Batch, time and what follows them stand as our rows do.
  const auto dense = [&](const std::string& key, std::int64_t rows, std::int64_t columns) {
    WideMatrix m(rows, columns);
    m.values() = golden.read(key).values;
    if (static_cast<std::int64_t>(m.values().size()) != rows * columns) throw std::runtime_error("the shape of " + key);
    return m;
  };
  const auto states_of = [&](const std::string& key) {
    WideMatrix m(static_cast<std::int64_t>(c.sequences.size()) * heads * states, width);
    if (!golden.has(key)) return m;
    const Tensor tensor = golden.read(key);
    for (std::int64_t n = 0; n < batch; ++n) {
      for (std::int64_t i = 0; i < heads * states; ++i) {
        for (std::int64_t p = 0; p < width; ++p) {
          m.at(batches.last[static_cast<std::size_t>(n)] * heads * states + i, p) =
              tensor.at({n, i / states, p, i % states});
        }
      }
    }
    return m;
  };
  const auto fill = [&](Values& v, const std::string& kind) {
    const std::int64_t rows = batch * length;
    v.x = dense(kind + "x", rows, heads * width);
    v.dt = dense(kind + "dt", rows, heads);
    v.b = dense(kind + "B", rows, groups * states);
    v.c = dense(kind + "C", rows, groups * states);
    v.a = dense(kind + "A", 1, heads);
    v.d = dense(kind + "D", 1, d.shape.size() == 2 ? heads * width : heads);
    v.bias = dense(kind + "dt_bias", 1, heads);
    if (golden.has("in.z")) v.z = dense(kind + "z", rows, heads * width);
    if (kind == "in." || golden.has("grad.state0")) v.start = states_of(kind + "state0");
  };
  fill(c.in, "in.");
  fill(result.expected, "grad.");
  c.up = dense("up.y", batch * length, heads * width);
  c.up_last = states_of("up.final_state");
  return result;
}

class GoldenSsdBackward : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenSsdBackward, OracleAndKernelAgree) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const Golden golden(tests::file_of(path, GetParam()));
  GoldenCase g = read_case(golden, std::string_view(GetParam()).find("dtlimit") != std::string_view::npos);
  tests::expect_relative(kParts, oracle(g.c), g.expected, tests::kOracleTolerance);
  ThreadPool pool(2);
  on_every_target([&] {
    for (const std::int64_t chunk : {1, 16, 64}) {
      g.c.chunk = chunk;
      tests::expect_relative(kParts, kernel(pool, g.c), g.expected, tests::kKernelTolerance);
    }
  });
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenSsdBackward,
                         ::testing::Values("ssd_L128_G1", "ssd_L128_G2_initial", "ssd_L1_G1", "ssd_L1_G2_initial",
                                           "ssd_L37_G1_z_Dfull", "ssd_L37_G2_dtlimit", "ssd_L37_G2_initial",
                                           "ssd_packed"));

}  // namespace
}  // namespace krait::kernels
