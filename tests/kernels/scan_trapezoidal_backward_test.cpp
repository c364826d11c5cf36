#include "krait/kernels/scan_trapezoidal_backward.h"

#include <functional>
#include <map>

#include "krait/kernels/reference/scan_trapezoidal_backward.h"
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

struct Sizes {
  std::vector<std::int64_t> lengths;  // of sequences, one after the other
  std::int64_t heads, width, states, groups, rank, angles;
  bool halves = false;
  bool norm = false;
};

// Everything with a gradient, by name: rows, then parameters. Absent parameters have no columns.
constexpr std::size_t kRowInputs = 8;
const std::vector<std::string> kNames = {"x",      "z",     "b",         "c",        "dt",      "a",
                                         "trap",   "angle", "dt_bias",   "b_norm",   "c_norm",  "b_bias",
                                         "c_bias", "d",     "value_mix", "gate_mix", "out_mix", "norm"};

// A state: S [H*N, P], theta [H, angles], k [H*R, N], x [H, P].
struct State {
  std::vector<Doubles> parts;

  explicit State(const Sizes& s)
      : parts({Doubles(s.heads * s.states, s.width), Doubles(s.heads, s.angles), Doubles(s.heads * s.rank, s.states),
               Doubles(s.heads, s.width)}) {}
  // As the kernels take it, in T.
  template <class T>
  std::vector<T> packed() const {
    std::vector<T> result;
    for (const Doubles& part : parts) {
      for (const double v : part.values()) result.push_back(static_cast<T>(v));
    }
    return result;
  }
  template <class T>
  void unpack(const std::vector<T>& from) {
    std::size_t at = 0;
    for (Doubles& part : parts) {
      for (double& v : part.values()) v = from[at++];
    }
  }
};

template <class T>
TrapezoidalScanOf<T> scan_of(const Sizes& s) {
  TrapezoidalScanOf<T> scan{.heads = s.heads,
                            .head_width = s.width,
                            .states = s.states,
                            .groups = s.groups,
                            .rank = s.rank,
                            .angles = s.angles,
                            .halves = s.halves,
                            .chunk = 8};
  constexpr auto kBytes = static_cast<std::int64_t>(sizeof(T));
  scan.angle_offset = kBytes * s.heads * s.states * s.width;
  scan.key_offset = scan.angle_offset + kBytes * s.heads * s.angles;
  scan.value_offset = scan.key_offset + kBytes * s.heads * s.rank * s.states;
  return scan;
}

// M is Doubles or Matrix.
template <class T, class M>
void set_parameters(TrapezoidalScanOf<T>& scan, std::vector<M>& in) {
  const auto at = [&](std::size_t i) -> const T* { return in[i].columns() == 0 ? nullptr : in[i].data(); };
  scan.dt_bias = at(8), scan.b_norm = at(9), scan.c_norm = at(10), scan.b_bias = at(11), scan.c_bias = at(12);
  scan.d = at(13), scan.value_mix = at(14), scan.gate_mix = at(15), scan.out_mix = at(16), scan.norm = at(17);
}
template <class T, class M>
TrapezoidalInputsOf<T> inputs_of(const std::vector<M>& in) {
  return {in[0].in(), in[1].in(), in[2].in(), in[3].in(), in[4].in(), in[5].in(), in[6].in(), in[7].in()};
}
template <class T, class M>
TrapezoidalGradientsOf<T> gradients_of(std::vector<M>& to) {
  const auto at = [&](std::size_t i) -> T* { return to[i].columns() == 0 ? nullptr : to[i].data(); };
  return {to[0].out(), to[1].out(), to[2].out(), to[3].out(), to[4].out(), to[5].out(),
          to[6].out(), to[7].out(), at(8),       at(9),       at(10),      at(11),
          at(12),      at(13),      at(14),      at(15),      at(16),      at(17)};
}

struct Case {
  Sizes sizes;
  std::int64_t rows = 0;
  TrapezoidalScanOf<double> scan;
  std::vector<Doubles> in, gradients;  // as kNames
  Doubles d_y, y;
  std::vector<State> initial, d_final, last, d_initial;

  Case(const Sizes& s, Random& random) : sizes(s), scan(scan_of<double>(s)) {
    for (const std::int64_t length : s.lengths) rows += length;
    const std::int64_t mixed = s.rank > 1 ? s.rank * s.width : 0;
    const auto normal = [&](std::int64_t r, std::int64_t c) {
      Doubles result(r, c);
      // Numbers that f32 holds, so that both precisions start from the same.
      result.fill([&](auto, auto) { return static_cast<double>(static_cast<float>(random.normal())); });
      return result;
    };
    for (int i = 0; i < 2; ++i) in.push_back(normal(rows, s.heads * s.width));
    for (int i = 0; i < 2; ++i) in.push_back(normal(rows, s.rank * s.groups * s.states));
    for (int i = 0; i < 3; ++i) in.push_back(normal(rows, s.heads));
    in.push_back(normal(rows, s.angles));
    in.push_back(normal(1, s.heads));
    for (int i = 0; i < 2; ++i) in.push_back(normal(1, s.states));
    for (int i = 0; i < 2; ++i) in.push_back(normal(s.heads, s.rank * s.states));
    in.push_back(normal(1, s.heads));
    for (int i = 0; i < 3; ++i) in.push_back(normal(s.heads, mixed));
    in.push_back(normal(s.heads, s.norm ? s.width : 0));
    for (double& v : in[8].values()) v = static_cast<float>(v - 2.0);
    d_y = normal(rows, s.heads * s.width);
    for (std::size_t i = 0; i < s.lengths.size(); ++i) {
      for (std::vector<State>* states : {&initial, &d_final}) {
        states->emplace_back(s);
        for (Doubles& part : states->back().parts) part = normal(part.rows(), part.columns());
      }
    }
  }

  // The sum that gradients are of.
  double loss() {
    set_parameters(scan, in);
    y = Doubles(rows, d_y.columns());
    last = initial;
    double sum = 0.0;
    std::int64_t row = 0;
    const TrapezoidalInputsOf<double> all = inputs_of<double>(in);
    for (std::size_t i = 0; i < initial.size(); ++i) {
      const std::int64_t length = sizes.lengths[i];
      const auto cut = [&](Rows<const double> m) { return m.slice_rows(row, length); };
      reference::TrapezoidalState state(scan);
      std::vector<double>* const parts[] = {&state.state, &state.angle, &state.key, &state.value};
      for (std::size_t j = 0; j < 4; ++j) *parts[j] = initial[i].parts[j].values();
      reference::trapezoidal_scan(
          scan,
          {cut(all.x), cut(all.z), cut(all.b), cut(all.c), cut(all.dt), cut(all.a), cut(all.trap), cut(all.angle)},
          state, y.out().slice_rows(row, length), {});
      for (std::size_t j = 0; j < 4; ++j) {
        last[i].parts[j].values() = *parts[j];
        for (std::size_t e = 0; e < parts[j]->size(); ++e) sum += d_final[i].parts[j].values()[e] * (*parts[j])[e];
      }
      row += length;
    }
    for (std::size_t j = 0; j < y.values().size(); ++j) sum += d_y.values()[j] * y.values()[j];
    return sum;
  }

  void backward() {
    set_parameters(scan, in);
    gradients.clear();
    for (const Doubles& m : in) gradients.emplace_back(m.rows(), m.columns());
    d_initial.clear();
    std::int64_t row = 0;
    for (std::size_t i = 0; i < initial.size(); ++i) {
      const std::vector<double> start = initial[i].packed<double>(), up = d_final[i].packed<double>();
      std::vector<double> back(start.size());
      reference::trapezoidal_scan_backward(scan, inputs_of<double>(in), d_y.in(),
                                           {.first_row = row,
                                            .rows = sizes.lengths[i],
                                            .initial = reinterpret_cast<const std::byte*>(start.data()),
                                            .final_gradient = reinterpret_cast<const std::byte*>(up.data()),
                                            .initial_gradient = reinterpret_cast<std::byte*>(back.data())},
                                           gradients_of<double>(gradients));
      d_initial.emplace_back(sizes);
      d_initial.back().unpack(back);
      row += sizes.lengths[i];
    }
  }
};

// Both kernels in f32, forward for what it saves, on matrices with strides and off any alignment. What backward gives
// goes where Case::backward puts it.
void run_kernel(Case& c, ThreadPool& pool, std::int64_t chunk, HowCalled how = {}) {
  TrapezoidalScan scan = scan_of<float>(c.sizes);
  scan.chunk = chunk;
  scan.epsilon = static_cast<float>(c.scan.epsilon);
  scan.decay_floor = static_cast<float>(c.scan.decay_floor);
  std::vector<RowsMatrix> in, gradients;
  for (std::size_t i = 0; i < c.in.size(); ++i) {
    const auto row_input = static_cast<std::int64_t>(i < kRowInputs);
    const bool backwards = how.backwards && row_input == 1;
    in.push_back(tests::narrowed(c.in[i], row_input * (static_cast<std::int64_t>(i) % 4), row_input, backwards));
    gradients.emplace_back(in[i].rows(), in[i].columns(), row_input * (static_cast<std::int64_t>(i) % 3), row_input,
                           backwards);
    // Parameters are added to.
    if (row_input == 0) gradients[i].fill([] { return 1.0; });
  }
  set_parameters(scan, in);
  const RowsMatrix d_y = tests::narrowed(c.d_y, 1, 1, how.backwards);
  std::vector<std::vector<float>> states, initial, d_final, d_initial;
  for (std::size_t i = 0; i < c.initial.size(); ++i) {
    initial.push_back(c.initial[i].packed<float>());
    d_final.push_back(c.d_final[i].packed<float>());
  }
  states = d_initial = initial;
  const auto bytes = [](std::vector<float>& v) { return reinterpret_cast<std::byte*>(v.data()); };
  std::vector<SequenceRows> sequences;
  std::vector<TrapezoidalBackwardSequence> backward;
  std::int64_t row = 0;
  for (std::size_t i = 0; i < states.size(); ++i) {
    const std::int64_t length = c.sizes.lengths[i];
    sequences.push_back({.first_row = row, .rows = length, .state = bytes(states[i])});
    backward.push_back({.first_row = row,
                        .rows = length,
                        .initial = how.bare ? nullptr : bytes(initial[i]),
                        .final_gradient = how.bare ? nullptr : bytes(d_final[i]),
                        .initial_gradient = how.bare ? nullptr : bytes(d_initial[i])});
    row += length;
  }
  const std::int64_t chunks = saved_chunks_of(sequences, scan.chunk_rows());
  Matrix saved_s(chunks, scan.heads * scan.states * scan.head_width), saved_angle(chunks, scan.heads * scan.angles);
  const TrapezoidalSaved saved = {.s = saved_s.data(), .angle = saved_angle.data()};
  Matrix y(row, d_y.columns());
  trapezoidal_scan(pool, scan, inputs_of<float>(in), sequences, y.out(), &saved);
  TrapezoidalGradients to = gradients_of<float>(gradients);
  if (how.bare) to = {to.x, to.z, to.b, to.c, to.dt, to.a, to.trap, to.angle};
  trapezoidal_scan_backward(pool, scan, inputs_of<float>(in), saved, d_y.in(), backward, to);
  c.gradients.clear();
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    gradients[i].check_gaps();
    c.gradients.emplace_back(gradients[i]);
    if (i < kRowInputs) continue;
    for (double& v : c.gradients[i].values()) v -= 1.0;
  }
  c.d_initial.clear();
  for (const std::vector<float>& back : d_initial) c.d_initial.emplace_back(c.sizes).unpack(back);
}

// Roundings that a term goes through: the norm of k, of q and of y, sums over N, P, R and a chunk, each forward and
// back; the decays and sizes of each row it passes, and the angles, which gather a rounding of 4 a row. Terms are not
// much larger than the largest element.
double tolerance_of(const Case& c) {
  const auto rows = static_cast<double>(*std::max_element(c.sizes.lengths.begin(), c.sizes.lengths.end()));
  return kRounding * (2.0 * static_cast<double>((c.sizes.states + c.sizes.width) * c.sizes.rank) + 25.0 * rows + 200.0);
}

void expect_matches_reference(Case& c, ThreadPool& pool, std::int64_t chunk, HowCalled how = {}) {
  c.backward();
  Case actual = c;
  run_kernel(actual, pool, chunk, how);
  const double bound = tolerance_of(c);
  for (std::size_t i = 0; i < (how.bare ? kRowInputs : kNames.size()); ++i) {
    // That a parameter's was 1 larger is a rounding more.
    const double offset = i < kRowInputs ? 0.0 : kRounding / std::max(c.gradients[i].largest(), 1e-30);
    expect_within(actual.gradients[i], c.gradients[i], bound + offset, kNames[i]);
  }
  if (how.bare) return;
  for (std::size_t i = 0; i < c.initial.size(); ++i) {
    for (std::size_t j = 0; j < 4; ++j) {
      expect_within(actual.d_initial[i].parts[j], c.d_initial[i].parts[j], bound, "state " + std::to_string(j));
    }
  }
}

TEST(ScanTrapezoidalBackward, KernelMatchesReferenceAtEveryWidthAndRank) {
  ThreadPool pool(2);
  tests::on_every_target([&] {
    Random random(2);
    for (const std::int64_t width : {1, 3, 8, 16, 17, 34, 66}) {
      for (const std::int64_t rank : {1, 2, 3, 4}) {
        SCOPED_TRACE(::testing::Message() << "P " << width << ", R " << rank);
        Case c({{13}, 2, width, 10, 1, rank, 4, rank > 1}, random);
        expect_matches_reference(c, pool, 16);
      }
    }
  });
}

TEST(ScanTrapezoidalBackward, KernelMatchesReferenceAtEveryStateSizePairingAndNorm) {
  ThreadPool pool(2);
  tests::on_every_target([&] {
    Random random(3);
    for (const std::int64_t states : {2, 6, 32, 66}) {
      for (const bool halves : {false, true}) {
        for (const bool norm : {false, true}) {
          SCOPED_TRACE(::testing::Message() << "N " << states << ", halves " << halves << ", norm " << norm);
          Case c({{21, 2}, 6, 8, states, 3, halves ? 2 : 1, halves ? states / 4 : states / 2, halves, norm}, random);
          expect_matches_reference(c, pool, 16);
        }
      }
    }
  });
}

TEST(ScanTrapezoidalBackward, KernelMatchesReferenceAtEveryLengthAndChunk) {
  ThreadPool pool(2);
  tests::on_every_target([&] {
    Random random(4);
    for (const std::int64_t rank : {1, 3}) {
      for (const std::int64_t chunk : {1, 5, 16, 64}) {
        const std::int64_t rows = std::max<std::int64_t>(1, chunk / rank);
        for (const std::int64_t length : {std::int64_t{0}, std::int64_t{1}, rows - 1, rows, rows + 1, 3 * rows + 2}) {
          SCOPED_TRACE(::testing::Message() << "R " << rank << ", chunk " << chunk << ", " << length << " rows");
          Case c({{length, 3}, 11, 6, 8, 1, rank, 3, rank > 1}, random);
          expect_matches_reference(c, pool, chunk);
        }
      }
    }
  });
}

TEST(ScanTrapezoidalBackward, KernelMatchesReferenceAtTrainingSizes) {
  ThreadPool pool(2);
  tests::on_every_target([&] {
    Random random(7);
    for (const std::int64_t rank : {1, 4}) {
      Case c({{150, 70}, 2, 64, 128, 1, rank, 32, rank > 1}, random);
      expect_matches_reference(c, pool, 64);
    }
  });
}

TEST(ScanTrapezoidalBackward, RowsMayStandBackwards) {
  ThreadPool pool(2);
  tests::on_every_target([&] {
    Random random(8);
    Case c({{11, 2}, 4, 6, 8, 2, 2, 3, true}, random);
    expect_matches_reference(c, pool, 16, {.backwards = true});
  });
}

TEST(ScanTrapezoidalBackward, GradientsOfStatesAndParametersMayBeAbsent) {
  ThreadPool pool(2);
  tests::on_every_target([&] {
    Random random(9);
    Case c({{11, 0, 2}, 4, 6, 8, 2, 2, 3, true, true}, random);
    for (std::vector<State>* states : {&c.initial, &c.d_final}) {
      for (State& state : *states) {
        for (Doubles& part : state.parts) part.fill([](auto, auto) { return 0.0; });
      }
    }
    expect_matches_reference(c, pool, 16, {.bare = true});
  });
}

TEST(ScanTrapezoidalBackward, FastDecayStaysFinite) {
  ThreadPool pool(1);
  tests::on_every_target([&] {
    Random random(5);
    Case c({{90}, 2, 16, 8, 1, 1, 2}, random);
    for (double& v : c.in[4].values()) v = static_cast<float>(15.0 + v);
    for (double& v : c.in[5].values()) v = static_cast<float>(10.0 + v);
    expect_matches_reference(c, pool, 64);
  });
}

TEST(ScanTrapezoidalBackward, ThreadsDoNotMatter) {
  tests::on_every_target([&] {
    Random random(6);
    Case c({{20, 1, 0, 9, 3, 30}, 10, 12, 8, 2, 2, 3, true, true}, random);
    Case first = c;
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      run_kernel(c, pool, 16);
      if (threads == 1) {
        first = c;
        continue;
      }
      for (std::size_t i = 0; i < kNames.size(); ++i) {
        EXPECT_EQ(c.gradients[i].values(), first.gradients[i].values()) << kNames[i];
      }
      for (std::size_t i = 0; i < c.initial.size(); ++i) {
        for (std::size_t j = 0; j < 4; ++j) {
          EXPECT_EQ(c.d_initial[i].parts[j].values(), first.d_initial[i].parts[j].values());
        }
      }
    }
  });
}

TEST(ScanTrapezoidalBackward, ReferenceIsTheDerivativeOfTheReference) {
  Random random(1);
  for (const Sizes& sizes : {Sizes{{4, 0, 3, 1}, 2, 3, 4, 1, 1, 2}, Sizes{{5}, 4, 2, 6, 2, 1, 2, false, true},
                             Sizes{{4, 2}, 2, 3, 6, 1, 2, 2, true}, Sizes{{3}, 2, 3, 4, 2, 3, 2, true, true},
                             Sizes{{3}, 2, 3, 4, 1, 2, 0}}) {
    Case c(sizes, random);
    c.in[5].at(0, 0) = -2e4;  // a decay at its floor
    c.backward();
    const auto loss = [&] { return c.loss(); };
    const auto check = [&](const std::string& what, Doubles& value, const Doubles& gradient) {
      tests::expect_derivatives(what, value.data(), value.rows() * value.columns(), gradient.data(), loss);
    };
    for (std::size_t i = 0; i < kNames.size(); ++i) check(kNames[i], c.in[i], c.gradients[i]);
    for (std::size_t i = 0; i < c.initial.size(); ++i) {
      for (std::size_t j = 0; j < 4; ++j) check("state", c.initial[i].parts[j], c.d_initial[i].parts[j]);
    }
    EXPECT_EQ(c.gradients[5].at(0, 0), 0.0);
  }
}

// Sums of gradients in the shapes of a golden, to be compared with it at the end.
class Totals {
 public:
  explicit Totals(const Golden& golden) : golden_(golden) {}
  double& at(const std::string& name, std::initializer_list<std::int64_t> index) {
    if (!totals_.contains(name)) {
      Tensor zero = golden_.read("grad." + name);
      std::fill(zero.values.begin(), zero.values.end(), 0.0);
      totals_.emplace(name, std::move(zero));
    }
    Tensor& tensor = totals_.at(name);
    std::int64_t offset = 0;
    std::size_t dimension = 0;
    for (const std::int64_t i : index) offset = offset * tensor.size(dimension++) + i;
    return tensor.values.at(static_cast<std::size_t>(offset));
  }
  void expect_within(double tolerance) const {
    for (const auto& [name, tensor] : totals_) {
      const Tensor expected = golden_.read("grad." + name);
      for (std::size_t i = 0; i < expected.values.size(); ++i) {
        ASSERT_NEAR(tensor.values[i], expected.values[i], tolerance * expected.largest) << name << ", at " << i;
      }
    }
  }

 private:
  const Golden& golden_;
  std::map<std::string, Tensor> totals_;
};

using Run = std::function<void(Case&)>;

// The golden's angles differ from head to head and its k and q are past their norms: every head is a scan of its own,
// whose epsilon of 2^60 and weights of 2^30 make the norm the identity. dt and A dt are given: their raw forms are
// found, and the gradients of these taken back. With R > 1 the last row's v is given for each r: what it adds to S is
// put there beforehand.
void check_scan_golden(const Golden& golden, const Run& run, double tolerance) {
  const bool mimo = golden.has("in.MIMO_V");
  const std::map<std::string, Tensor> tensors = [&] {
    std::map<std::string, Tensor> result;
    for (const char* name : {"Q", "K", "V", "ADT", "DT", "Trap", "Q_bias", "K_bias", "Angles", "D", "Z", "angle0",
                             "ssm0", "k0", "v0", "MIMO_V", "MIMO_Z", "MIMO_O"}) {
      if (golden.has(std::string("in.") + name)) result.emplace(name, golden.read(std::string("in.") + name));
    }
    return result;
  }();
  const auto in = [&](const char* name, std::initializer_list<std::int64_t> index) {
    const auto found = tensors.find(name);
    return found == tensors.end() ? 0.0 : found->second.at(index);
  };
  const Tensor &v = tensors.at("V"), &angles = tensors.at("Angles");
  const std::int64_t batch = v.size(0), length = v.size(1), heads = v.size(2), width = v.size(3);
  const std::int64_t rank = mimo ? tensors.at("K").size(2) : 1, groups = tensors.at("K").size(mimo ? 3 : 2);
  const std::int64_t states = tensors.at("K").shape.back(), last = length - 1;
  const Tensor up_y = golden.read("up.y"), up_ssm = golden.read("up.final_ssm"), up_k = golden.read("up.final_k");
  const Tensor up_v = golden.read("up.final_v"), up_angle = mimo ? golden.read("up.final_angle") : Tensor();
  const bool has_initial = golden.has("in.ssm0");
  Totals totals(golden);
  for (std::int64_t n = 0; n < batch; ++n) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const std::int64_t g = h / (heads / groups);
      Random random(1);
      Case c({{length}, 1, width, states, 1, rank, angles.size(3), mimo}, random);
      c.scan.epsilon = 0x1p60;
      c.scan.decay_floor = 1e-12;
      const auto shared = [&](const char* name, std::int64_t t, std::int64_t i) {
        return mimo ? in(name, {n, t, i / states, g, i % states}) : in(name, {n, t, g, i});
      };
      const auto own = [&](const char* name, std::int64_t i, std::int64_t size) {
        return mimo ? in(name, {h, i / size, i % size}) : in(name, {h, i});
      };
      const auto a_of = [&](std::int64_t t) { return in("ADT", {n, h, t}) / in("DT", {n, h, t}); };
      c.in[0].fill([&](auto t, auto p) { return in("V", {n, t, h, p}); });
      c.in[1].fill([&](auto t, auto p) { return in("Z", {n, t, h, p}); });
      c.in[2].fill([&](auto t, auto i) { return shared("K", t, i); });
      c.in[3].fill([&](auto t, auto i) { return shared("Q", t, i); });
      c.in[4].fill([&](auto t, auto) { return std::log(std::expm1(in("DT", {n, h, t}))); });
      c.in[5].fill([&](auto t, auto) { return -a_of(t) >= 1.0 ? -a_of(t) - 1.0 : 1.0 + 1.0 / a_of(t); });
      c.in[6].fill([&](auto t, auto) { return in("Trap", {n, h, t}); });
      c.in[7].fill([&](auto t, auto i) { return in("Angles", {n, t, h, i}); });
      c.in[8].fill([](auto, auto) { return 0.0; });
      for (const std::size_t i : {9, 10}) c.in[i].fill([](auto, auto) { return 0x1p30; });
      c.in[11].fill([&](auto, auto i) { return own("K_bias", i, states); });
      c.in[12].fill([&](auto, auto i) { return own("Q_bias", i, states); });
      c.in[13].fill([&](auto, auto) { return in("D", {h}); });
      c.in[14].fill([&](auto, auto i) { return own("MIMO_V", i, width); });
      c.in[15].fill([&](auto, auto i) { return own("MIMO_Z", i, width); });
      c.in[16].fill([&](auto, auto i) { return own("MIMO_O", i, width); });
      c.d_y.fill([&](auto t, auto p) { return up_y.at({n, t, h, p}); });
      const double dt0 = in("DT", {n, h, 0}), l0 = 1.0 / (1.0 + std::exp(-in("Trap", {n, h, 0})));
      const double shift = (1.0 - l0) * dt0;
      const auto k0 = [&](std::int64_t r, std::int64_t s) {
        return mimo ? in("k0", {n, h, r, s}) : in("k0", {n, h, s});
      };
      const auto v0 = [&](std::int64_t r, std::int64_t p) { return in("v0", {n, h, r, p}); };
      std::vector<Doubles>& start = c.initial[0].parts;
      for (Doubles& part : start) part.fill([](auto, auto) { return 0.0; });
      if (has_initial) {
        start[0].fill([&](auto s, auto p) {
          double sum = in("ssm0", {n, h, p, s});
          for (std::int64_t r = 0; mimo && r < rank; ++r) sum += shift * k0(r, s) * v0(r, p);
          return sum;
        });
        start[1].fill([&](auto, auto i) { return in("angle0", {n, h, i}); });
        if (!mimo) start[2].fill([&](auto, auto s) { return k0(0, s); });
        if (!mimo) start[3].fill([&](auto, auto p) { return in("v0", {n, h, p}); });
      }
      std::vector<Doubles>& up = c.d_final[0].parts;
      up[0].fill([&](auto s, auto p) { return up_ssm.at({n, h, p, s}); });
      up[1].fill([&](auto, auto i) { return mimo ? up_angle.at({n, h, i}) : 0.0; });
      up[2].fill([&](auto r, auto s) { return mimo ? up_k.at({n, h, r, s}) : up_k.at({n, h, s}); });
      up[3].fill([&](auto, auto p) {
        if (!mimo) return up_v.at({n, h, p});
        double sum = 0.0;
        for (std::int64_t r = 0; r < rank; ++r) sum += up_v.at({n, h, r, p}) * in("MIMO_V", {h, r, p});
        return sum;
      });
      run(c);

      const std::vector<Doubles>& d = c.gradients;
      for (std::int64_t t = 0; t < length; ++t) {
        for (std::int64_t p = 0; p < width; ++p) {
          totals.at("V", {n, t, h, p}) += d[0].at(t, p);
          totals.at("Z", {n, t, h, p}) += d[1].at(t, p);
        }
        for (std::int64_t i = 0; i < rank * states; ++i) {
          (mimo ? totals.at("K", {n, t, i / states, g, i % states}) : totals.at("K", {n, t, g, i})) += d[2].at(t, i);
          (mimo ? totals.at("Q", {n, t, i / states, g, i % states}) : totals.at("Q", {n, t, g, i})) += d[3].at(t, i);
        }
        const double dt = in("DT", {n, h, t}), slope = -a_of(t) >= 1.0 ? 1.0 : a_of(t) * a_of(t);
        const double d_log = -d[5].at(t, 0) / (dt * slope);
        totals.at("ADT", {n, h, t}) += d_log;
        totals.at("DT", {n, h, t}) += d[4].at(t, 0) / -std::expm1(-dt) - a_of(t) * d_log;
        totals.at("Trap", {n, h, t}) += d[6].at(t, 0);
        for (std::int64_t i = 0; i < angles.size(3); ++i) totals.at("Angles", {n, t, h, i}) += d[7].at(t, i);
      }
      for (std::int64_t i = 0; i < rank * states; ++i) {
        (mimo ? totals.at("K_bias", {h, i / states, i % states}) : totals.at("K_bias", {h, i})) += d[11].at(0, i);
        (mimo ? totals.at("Q_bias", {h, i / states, i % states}) : totals.at("Q_bias", {h, i})) += d[12].at(0, i);
      }
      totals.at("D", {h}) += d[13].at(0, 0);
      for (std::int64_t i = 0; mimo && i < rank * width; ++i) {
        const std::int64_t r = i / width, p = i % width;
        totals.at("MIMO_V", {h, r, p}) += d[14].at(0, i) + up_v.at({n, h, r, p}) * in("V", {n, last, h, p});
        totals.at("MIMO_Z", {h, r, p}) += d[15].at(0, i);
        totals.at("MIMO_O", {h, r, p}) += d[16].at(0, i);
      }
      if (!has_initial) continue;
      const std::vector<Doubles>& back = c.d_initial[0].parts;
      for (std::int64_t i = 0; i < angles.size(3); ++i) totals.at("angle0", {n, h, i}) += back[1].at(0, i);
      for (std::int64_t p = 0; p < width; ++p) {
        if (!mimo) totals.at("v0", {n, h, p}) += back[3].at(0, p);
        for (std::int64_t s = 0; s < states; ++s) totals.at("ssm0", {n, h, p, s}) += back[0].at(s, p);
      }
      for (std::int64_t s = 0; s < states; ++s) {
        if (!mimo) totals.at("k0", {n, h, s}) += back[2].at(0, s);
        for (std::int64_t p = 0; mimo && p < width; ++p) {
          for (std::int64_t r = 0; r < rank; ++r) {
            const double ds = back[0].at(s, p), d_shift = ds * k0(r, s) * v0(r, p);
            totals.at("k0", {n, h, r, s}) += shift * ds * v0(r, p);
            totals.at("v0", {n, h, r, p}) += shift * ds * k0(r, s);
            totals.at("DT", {n, h, 0}) += (1.0 - l0) * d_shift;
            totals.at("Trap", {n, h, 0}) -= dt0 * l0 * (1.0 - l0) * d_shift;
          }
        }
      }
    }
  }
  totals.expect_within(tolerance);
}

// The whole block: y = W_out scan(W_in u), the rows of W_in in the order z, x, b, c, dt, a, trap, angle.
void check_block_golden(const Golden& golden, const Run& run, double tolerance) {
  const Tensor u = golden.read("in.u"), w_in = golden.read("in.w.in_proj.weight");
  const Tensor w_out = golden.read("in.w.out_proj.weight"), bias = golden.read("in.w.B_bias"), up = golden.read("up.y");
  const std::int64_t batch = u.size(0), length = u.size(1), model = u.size(2);
  const std::int64_t heads = bias.size(0), rank = bias.size(1), states = bias.size(2), inner = w_out.size(1);
  const bool mimo = golden.has("in.w.mimo_x"), norm = golden.has("in.w.norm.weight");
  // B and C take 2 G R N rows, angles at most N / 2: so many groups.
  const std::int64_t rest = w_in.size(0) - 2 * inner - 3 * heads, groups = rest / (2 * rank * states);
  const std::int64_t angles = rest - 2 * groups * rank * states;
  Random random(1);
  Case c({std::vector<std::int64_t>(static_cast<std::size_t>(batch), length), heads, inner / heads, states, groups,
          rank, angles, mimo, norm},
         random);
  const std::size_t order[] = {1, 0, 2, 3, 4, 5, 6, 7};
  std::int64_t from = 0;
  for (const std::size_t i : order) {
    c.in[i].fill([&](auto row, auto column) {
      double sum = 0.0;
      for (std::int64_t m = 0; m < model; ++m)
        sum += w_in.at({from + column, m}) * u.at({row / length, row % length, m});
      return sum;
    });
    from += c.in[i].columns();
  }
  ASSERT_EQ(from, w_in.size(0));
  const std::map<std::size_t, std::string> parameters = {
      {8, "dt_bias"}, {9, "B_norm.weight"}, {10, "C_norm.weight"}, {11, "B_bias"}, {12, "C_bias"},
      {13, "D"},      {14, "mimo_x"},       {15, "mimo_z"},        {16, "mimo_o"}, {17, "norm.weight"}};
  for (const auto& [i, name] : parameters) {
    if (c.in[i].columns() > 0) c.in[i].values() = golden.read("in.w." + name).values;
  }
  for (std::vector<State>* states_of : {&c.initial, &c.d_final}) {
    for (State& state : *states_of) {
      for (Doubles& part : state.parts) part.fill([](auto, auto) { return 0.0; });
    }
  }
  const auto up_at = [&](std::int64_t row, std::int64_t m) { return up.at({row / length, row % length, m}); };
  c.d_y.fill([&](auto row, auto i) {
    double sum = 0.0;
    for (std::int64_t m = 0; m < model; ++m) sum += up_at(row, m) * w_out.at({m, i});
    return sum;
  });
  c.loss();  // y
  run(c);

  Totals totals(golden);
  for (std::int64_t row = 0; row < batch * length; ++row) {
    for (std::int64_t m = 0; m < model; ++m) {
      for (std::int64_t i = 0; i < inner; ++i) totals.at("w.out_proj.weight", {m, i}) += up_at(row, m) * c.y.at(row, i);
      std::int64_t at = 0;
      for (const std::size_t i : order) {
        for (std::int64_t column = 0; column < c.in[i].columns(); ++column, ++at) {
          const double d = c.gradients[i].at(row, column);
          totals.at("u", {row / length, row % length, m}) += d * w_in.at({at, m});
          totals.at("w.in_proj.weight", {at, m}) += d * u.at({row / length, row % length, m});
        }
      }
    }
  }
  totals.expect_within(tolerance);
  for (const auto& [i, name] : parameters) {
    if (c.in[i].columns() == 0) continue;
    Doubles expected = c.in[i];
    expected.values() = golden.read("grad.w." + name).values;
    expect_within(c.gradients[i], expected, tolerance, name);
  }
}

class GoldenTrapezoidalScan : public ::testing::TestWithParam<const char*> {};
TEST_P(GoldenTrapezoidalScan, GradientsAgree) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const Golden golden(tests::file_of(path, GetParam()));
  check_scan_golden(golden, [](Case& c) { c.backward(); }, 1e-9);
  ThreadPool pool(2);
  tests::on_every_target([&] {
    for (const std::int64_t chunk : {16, 64}) {
      check_scan_golden(golden, [&](Case& c) { run_kernel(c, pool, chunk); }, 1e-5);
    }
  });
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenTrapezoidalScan,
                         ::testing::Values("m3_siso_scan_L17_initial", "m3_siso_scan_L21", "m3_mimo_scan_L13_initial",
                                           "m3_mimo_scan_L9_G2_initial"));

class GoldenTrapezoidalBlock : public ::testing::TestWithParam<const char*> {};
TEST_P(GoldenTrapezoidalBlock, GradientsAgree) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const Golden golden(tests::file_of(path, GetParam()));
  check_block_golden(golden, [](Case& c) { c.backward(); }, 1e-9);
  ThreadPool pool(2);
  tests::on_every_target([&] {
    for (const std::int64_t chunk : {16, 64}) {
      check_block_golden(golden, [&](Case& c) { run_kernel(c, pool, chunk); }, 2e-5);
    }
  });
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenTrapezoidalBlock,
                         ::testing::Values("m3_block_siso", "m3_block_siso_outnorm", "m3_block_siso_rope1_G2",
                                           "m3_block_mimo", "m3_block_mimo_rope1"));

}  // namespace
}  // namespace krait::kernels
