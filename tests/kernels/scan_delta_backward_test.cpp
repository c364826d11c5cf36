#include "krait/kernels/scan_delta_backward.h"

#include "krait/kernels/reference/scan_delta_backward.h"
#include "krait/kernels/saved_chunks.h"
#include "tests/kernels/golden_tensors.h"
#include "tests/kernels/gradient_testing.h"
#include "tests/support/shared_data.h"

namespace krait::kernels {
namespace {

using tests::Doubles;
using tests::expect_within;
using tests::Golden;
using tests::HowCalled;
using tests::kRounding;
using tests::Matrix;
using tests::RowsMatrix;
using tests::Tensor;

// Inputs, what is asked of the outputs, and the gradients, in double.
struct Case {
  Doubles q, k, v, dt, beta, a, d_o;
  std::vector<std::int64_t> lengths;      // sequences, one after the other
  std::vector<Doubles> initial, d_final;  // of each [Hv*Dk, Dv]
  DeltaScanOf<double> scan;
  Doubles o, dq, dk, dv, d_dt, d_beta, da;  // what comes out
  std::vector<Doubles> last, d_initial;

  Case(std::vector<std::int64_t> sequences, std::int64_t key_heads, std::int64_t value_heads, std::int64_t keys,
       std::int64_t values, Random& random)
      : lengths(std::move(sequences)) {
    std::int64_t rows = 0;
    for (const std::int64_t length : lengths) rows += length;
    const auto normal = [&](std::int64_t r, std::int64_t c, double scale) {
      Doubles result(r, c);
      // Numbers that f32 holds, so that both precisions start from the same.
      result.fill([&](auto, auto) { return static_cast<double>(static_cast<float>(scale * random.normal())); });
      return result;
    };
    q = normal(rows, key_heads * keys, 1.0);
    // About as long as normalised ones.
    k = normal(rows, key_heads * keys, 1.0 / std::sqrt(static_cast<double>(std::max<std::int64_t>(1, keys))));
    v = normal(rows, value_heads * values, 1.0);
    d_o = normal(rows, value_heads * values, 1.0);
    dt = normal(rows, value_heads, 1.0);
    beta = normal(rows, value_heads, 1.0);
    a = normal(1, value_heads, 1.0);
    for (double& value : dt.values()) value = static_cast<float>(0.02 + 0.2 * value * value);
    for (double& value : beta.values()) value = static_cast<float>(1.0 / (1.0 + std::exp(value)));
    for (double& value : a.values()) value = static_cast<float>(-0.3 - std::fabs(value));
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      initial.push_back(normal(value_heads * keys, values, 1.0));
      d_final.push_back(normal(value_heads * keys, values, 1.0));
    }
    scan = {.key_heads = key_heads, .value_heads = value_heads, .key_width = keys, .value_width = values, .chunk = 8};
  }

  DeltaScanOf<double> with_a() const {
    DeltaScanOf<double> result = scan;
    result.a = a.data();
    return result;
  }

  // The sum that gradients are of.
  double loss() {
    o = Doubles(d_o.rows(), d_o.columns());
    last = initial;
    double sum = 0.0;
    std::int64_t row = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const auto cut = [&](const Doubles& m) { return m.in().slice_rows(row, lengths[i]); };
      reference::delta_scan(with_a(), {.q = cut(q), .k = cut(k), .v = cut(v), .dt = cut(dt), .beta = cut(beta)},
                            std::span<double>(last[i].values()), o.out().slice_rows(row, lengths[i]));
      for (std::size_t j = 0; j < last[i].values().size(); ++j) sum += d_final[i].values()[j] * last[i].values()[j];
      row += lengths[i];
    }
    for (std::size_t j = 0; j < o.values().size(); ++j) sum += d_o.values()[j] * o.values()[j];
    return sum;
  }

  void backward() {
    const auto like = [](const Doubles& m) { return Doubles(m.rows(), m.columns()); };
    dq = like(q), dk = like(k), dv = like(v), d_dt = like(dt), d_beta = like(beta), da = like(a);
    d_initial.clear();
    std::int64_t row = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      d_initial.push_back(like(initial[i]));
      reference::delta_scan_backward(
          with_a(), {.q = q.in(), .k = k.in(), .v = v.in(), .dt = dt.in(), .beta = beta.in()}, initial[i].data(),
          d_o.in(),
          {.first_row = row,
           .rows = lengths[i],
           .final_gradient = d_final[i].data(),
           .initial_gradient = d_initial[i].data()},
          {.q = dq.out(), .k = dk.out(), .v = dv.out(), .dt = d_dt.out(), .beta = d_beta.out(), .a = da.data()});
      row += lengths[i];
    }
  }
};

// Both kernels in f32, forward for its saved states, on matrices with strides and off any alignment. What backward
// gives goes where Case::backward puts it.
void run_kernel(Case& c, ThreadPool& pool, std::int64_t chunk, HowCalled how = {}) {
  const auto narrowed = [&](const Doubles& m, std::int64_t gap, std::int64_t offset) {
    return tests::narrowed(m, gap, offset, how.backwards);
  };
  const RowsMatrix q = narrowed(c.q, 1, 1), k = narrowed(c.k, 3, 0), v = narrowed(c.v, 5, 1);
  const RowsMatrix dt = narrowed(c.dt, 2, 0), beta = narrowed(c.beta, 0, 0), d_o = narrowed(c.d_o, 1, 0);
  const Matrix a = tests::narrowed(c.a);
  const DeltaScan scan = {.key_heads = c.scan.key_heads,
                          .value_heads = c.scan.value_heads,
                          .key_width = c.scan.key_width,
                          .value_width = c.scan.value_width,
                          .a = a.data(),
                          .chunk = chunk};
  const DeltaScanInputs in = {.q = q.in(), .k = k.in(), .v = v.in(), .dt = dt.in(), .beta = beta.in()};
  std::vector<Matrix> states, d_final, d_initial;
  std::vector<SequenceRows> sequences;
  std::vector<DeltaBackwardSequence> backward;
  std::int64_t row = 0;
  for (std::size_t i = 0; i < c.lengths.size(); ++i) {
    states.push_back(tests::narrowed(c.initial[i]));
    d_final.push_back(tests::narrowed(c.d_final[i]));
    d_initial.emplace_back(d_final[i].rows(), d_final[i].columns());
  }
  for (std::size_t i = 0; i < c.lengths.size(); ++i) {
    sequences.push_back({.first_row = row, .rows = c.lengths[i], .state = states[i].bytes()});
    backward.push_back({.first_row = row,
                        .rows = c.lengths[i],
                        .final_gradient = how.bare ? nullptr : d_final[i].data(),
                        .initial_gradient = how.bare ? nullptr : d_initial[i].data()});
    row += c.lengths[i];
  }
  Matrix saved(saved_chunks_of(sequences, chunk), scan.value_heads * scan.key_width * scan.value_width);
  Matrix o(row, d_o.columns());
  delta_scan(pool, scan, in, sequences, o.out(), saved.data());
  const auto rows_like = [&](const RowsMatrix& m, std::int64_t gap) {
    return RowsMatrix(row, m.columns(), gap, 1, how.backwards);
  };
  RowsMatrix dq = rows_like(q, 2), dk = rows_like(k, 1), dv = rows_like(v, 3), d_dt = rows_like(dt, 1);
  RowsMatrix d_beta = rows_like(beta, 2);
  Matrix da(1, a.columns());
  da.fill([] { return 1.0; });  // added to
  delta_scan_backward(pool, scan, in, saved.data(), d_o.in(), backward,
                      {.q = dq.out(),
                       .k = dk.out(),
                       .v = dv.out(),
                       .dt = d_dt.out(),
                       .beta = d_beta.out(),
                       .a = how.bare ? nullptr : da.data()});
  for (const Matrix* m : {&dq, &dk, &dv, &d_dt, &d_beta}) m->check_gaps();
  for (std::int64_t h = 0; h < da.columns(); ++h) da.at(0, h) -= 1.0F;
  c.dq = Doubles(dq), c.dk = Doubles(dk), c.dv = Doubles(dv), c.d_dt = Doubles(d_dt), c.d_beta = Doubles(d_beta);
  c.da = Doubles(da);
  c.d_initial.clear();
  for (const Matrix& m : d_initial) c.d_initial.emplace_back(m);
}

// Roundings that a term goes through: the sums over keys, values and a chunk, forward and back; the substitutions of a
// chunk both ways; and 20 in each row whose state or gradient it passes through. Terms are not much larger than the
// largest element.
void expect_matches_reference(Case& c, ThreadPool& pool, std::int64_t chunk, HowCalled how = {}) {
  c.backward();
  Case actual = c;
  run_kernel(actual, pool, chunk, how);
  const auto rows = static_cast<double>(*std::max_element(c.lengths.begin(), c.lengths.end()));
  const double bound =
      kRounding * (2.0 * static_cast<double>(c.scan.key_width + c.scan.value_width) + 20.0 * rows + 50.0);
  expect_within(actual.dq, c.dq, bound, "q");
  expect_within(actual.dk, c.dk, bound, "k");
  expect_within(actual.dv, c.dv, bound, "v");
  expect_within(actual.d_dt, c.d_dt, bound, "dt");
  expect_within(actual.d_beta, c.d_beta, bound, "beta");
  if (how.bare) return;
  // What it was 1 larger by is a rounding more.
  expect_within(actual.da, c.da, bound + kRounding / std::max(c.da.largest(), 1e-30), "a");
  for (std::size_t i = 0; i < c.lengths.size(); ++i) {
    expect_within(actual.d_initial[i], c.d_initial[i], bound, "state");
  }
}

TEST(ScanDeltaBackward, KernelMatchesReferenceAtEveryWidth) {
  ThreadPool pool(2);
  tests::on_every_target([&] {
    Random random(2);
    for (const std::int64_t values : tests::kLengths) {
      for (const std::int64_t keys : {1, 7, 16, 18}) {
        SCOPED_TRACE(::testing::Message() << "Dk " << keys << ", Dv " << values);
        Case c({11}, 1, 2, keys, values, random);
        expect_matches_reference(c, pool, 8);
      }
    }
  });
}

TEST(ScanDeltaBackward, KernelMatchesReferenceAtEveryLengthAndChunk) {
  ThreadPool pool(2);
  tests::on_every_target([&] {
    Random random(3);
    for (const std::int64_t chunk : {1, 5, 8, 32, 64}) {
      for (const std::int64_t length : {std::int64_t{0}, std::int64_t{1}, chunk - 1, chunk, chunk + 1, 3 * chunk + 2}) {
        SCOPED_TRACE(::testing::Message() << "chunk " << chunk << ", " << length << " rows");
        Case c({length, 3}, 2, 4, 9, 20, random);
        expect_matches_reference(c, pool, chunk);
      }
    }
  });
}

TEST(ScanDeltaBackward, KernelMatchesReferenceAtTrainingSizes) {
  ThreadPool pool(2);
  tests::on_every_target([&] {
    Random random(6);
    Case c({150, 70}, 1, 2, 128, 128, random);
    expect_matches_reference(c, pool, 32);
  });
}

TEST(ScanDeltaBackward, RowsMayStandBackwards) {
  ThreadPool pool(2);
  tests::on_every_target([&] {
    Random random(7);
    Case c({11, 2}, 2, 4, 9, 20, random);
    expect_matches_reference(c, pool, 8, {.backwards = true});
  });
}

TEST(ScanDeltaBackward, GradientsOfStatesAndParametersMayBeAbsent) {
  ThreadPool pool(2);
  tests::on_every_target([&] {
    Random random(8);
    Case c({11, 0, 2}, 2, 4, 9, 20, random);
    for (Doubles& up : c.d_final) up.fill([](auto, auto) { return 0.0; });
    expect_matches_reference(c, pool, 8, {.bare = true});
  });
}

// One decay wipes everything out: exponents of what lies far apart are far below the smallest float.
TEST(ScanDeltaBackward, FastDecayStaysFinite) {
  ThreadPool pool(1);
  tests::on_every_target([&] {
    Random random(4);
    Case c({70}, 1, 1, 8, 8, random);
    for (double& dt : c.dt.values()) dt = static_cast<float>(60.0 * dt);
    expect_matches_reference(c, pool, 64);
  });
}

TEST(ScanDeltaBackward, ThreadsDoNotMatter) {
  tests::on_every_target([&] {
    Random random(5);
    Case c({20, 1, 0, 9}, 2, 4, 12, 20, random);
    Case first = c;
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      run_kernel(c, pool, 8);
      if (threads == 1) {
        first = c;
        continue;
      }
      EXPECT_EQ(c.dq.values(), first.dq.values());
      EXPECT_EQ(c.dk.values(), first.dk.values());
      EXPECT_EQ(c.dv.values(), first.dv.values());
      EXPECT_EQ(c.d_dt.values(), first.d_dt.values());
      EXPECT_EQ(c.d_beta.values(), first.d_beta.values());
      EXPECT_EQ(c.da.values(), first.da.values());
      for (std::size_t i = 0; i < c.lengths.size(); ++i) {
        EXPECT_EQ(c.d_initial[i].values(), first.d_initial[i].values());
      }
    }
  });
}

TEST(ScanDeltaBackward, ReferenceIsTheDerivativeOfTheReference) {
  Random random(1);
  for (const std::int64_t key_heads : {1, 2}) {
    Case c({5, 0, 3, 1}, key_heads, 2, 3, 4, random);
    c.backward();
    const auto loss = [&] { return c.loss(); };
    const auto check = [&](const char* what, Doubles& value, const Doubles& gradient) {
      tests::expect_derivatives(what, value.data(), value.rows() * value.columns(), gradient.data(), loss);
    };
    check("q", c.q, c.dq);
    check("k", c.k, c.dk);
    check("v", c.v, c.dv);
    check("dt", c.dt, c.d_dt);
    check("beta", c.beta, c.d_beta);
    check("a", c.a, c.da);
    for (std::size_t i = 0; i < c.lengths.size(); ++i) check("state", c.initial[i], c.d_initial[i]);
  }
}

// [B, T, H, …] of one batch entry as rows.
Doubles rows_of(const Tensor& tensor, std::int64_t batch) {
  const std::int64_t length = tensor.size(1),
                     columns = static_cast<std::int64_t>(tensor.values.size()) / tensor.size(0) / length;
  Doubles result(length, columns);
  result.fill(
      [&](auto t, auto c) { return tensor.values[static_cast<std::size_t>((batch * length + t) * columns + c)]; });
  return result;
}

// x / sqrt(sum x^2 + 1e-6) by heads of `width`, times scale; and back.
constexpr double kNormEpsilon = 1e-6;
double inverse_norm(const Doubles& x, std::int64_t t, std::int64_t from, std::int64_t width) {
  double squares = kNormEpsilon;
  for (std::int64_t i = from; i < from + width; ++i) squares += x.at(t, i) * x.at(t, i);
  return 1.0 / std::sqrt(squares);
}
Doubles normalised(const Doubles& x, std::int64_t width, bool norm, double scale) {
  Doubles y(x.rows(), x.columns());
  y.fill(
      [&](auto t, auto i) { return scale * x.at(t, i) * (norm ? inverse_norm(x, t, i / width * width, width) : 1.0); });
  return y;
}
Doubles normalised_backward(const Doubles& x, const Doubles& dy, std::int64_t width, bool norm, double scale) {
  Doubles dx(x.rows(), x.columns());
  dx.fill([&](auto t, auto i) {
    if (!norm) return scale * dy.at(t, i);
    const std::int64_t from = i / width * width;
    const double factor = inverse_norm(x, t, from, width);
    double along = 0.0;
    for (std::int64_t j = from; j < from + width; ++j) along += dy.at(t, j) * x.at(t, j);
    return scale * factor * (dy.at(t, i) - x.at(t, i) * along * factor * factor);
  });
  return dx;
}

class GoldenDeltaBackward : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenDeltaBackward, GradientsAgree) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const Golden golden(tests::file_of(path, GetParam()));
  const bool norm = std::string_view(GetParam()) != "gdr_L16_nonorm";
  const Tensor q = golden.read("in.q"), v = golden.read("in.v"), g = golden.read("in.g");
  const std::int64_t keys = q.size(3), values = v.size(3), heads = v.size(2), length = q.size(1);
  const double scale = 1.0 / std::sqrt(static_cast<double>(keys));
  for (std::int64_t n = 0; n < q.size(0); ++n) {
    const auto rows = [&](const std::string& name) { return rows_of(golden.read(name), n); };
    const auto state = [&](const std::string& name) {
      Doubles result(heads * keys, values);
      if (!golden.has(name)) return result;
      const Tensor tensor = golden.read(name);
      result.fill([&](auto r, auto p) { return tensor.at({n, r / keys, r % keys, p}); });
      return result;
    };
    Random random(1);
    Case c({length}, q.size(2), heads, keys, values, random);
    const Doubles raw_q = rows("in.q"), raw_k = rows("in.k");
    c.q = normalised(raw_q, keys, norm, scale);
    c.k = normalised(raw_k, keys, norm, 1.0);
    c.v = rows("in.v");
    c.dt = rows("in.g");
    c.beta = rows("in.beta");
    c.a.fill([](auto, auto) { return 1.0; });  // g itself is the exponent
    c.d_o = rows("up.y");
    c.initial[0] = state("in.state0");
    c.d_final[0] = state("up.final_state");
    const auto check = [&](double tolerance) {
      // Relative to the whole tensor, all batch entries of it.
      const auto compare = [&](const std::string& name, const Doubles& actual, const Doubles& expected) {
        const double whole = golden.read(name).largest;
        expect_within(actual, expected, tolerance * whole / std::max(expected.largest(), 1e-300), name);
      };
      compare("grad.q", normalised_backward(raw_q, c.dq, keys, norm, scale), rows("grad.q"));
      compare("grad.k", normalised_backward(raw_k, c.dk, keys, norm, 1.0), rows("grad.k"));
      compare("grad.v", c.dv, rows("grad.v"));
      compare("grad.g", c.d_dt, rows("grad.g"));
      compare("grad.beta", c.d_beta, rows("grad.beta"));
      if (golden.has("grad.state0")) compare("grad.state0", c.d_initial[0], state("grad.state0"));
    };
    c.loss();
    expect_within(c.o, rows("out.y"), 1e-9, "y");
    c.backward();
    check(1e-9);
    ThreadPool pool(2);
    tests::on_every_target([&] {
      for (const std::int64_t chunk : {8, 32}) {
        run_kernel(c, pool, chunk);
        check(1e-5);
      }
    });
  }
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenDeltaBackward,
                         ::testing::Values("gdr_L1", "gdr_L16_nonorm", "gdr_L37_initial", "gdr_L64_shared_keys"));

}  // namespace
}  // namespace krait::kernels
