#include "krait/nn/scan_trapezoidal.h"

#include <numbers>

#include "tests/nn/golden_operator.h"
#include "tests/nn/gradient_check.h"

namespace krait::nn {
namespace {

// The authors' scan takes what ours computes itself. A norm with a huge epsilon leaves K and Q as they are; dt and the
// decay are put in through the inverses of the functions that the scan applies.
class GoldenTrapezoidal : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenTrapezoidal, AgreesWithTheirs) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    tests::GoldenOperator golden(path, GetParam(), type);
    const bool mimo = golden.has("MIMO_V");
    const Tensor v = golden.in("V"), k = golden.in("K"), q = golden.in("Q"), angles = golden.in("Angles");
    const std::int64_t batch = v.size(0), length = v.size(1), heads = v.size(2), states = k.size(-1);
    const std::int64_t groups = k.size(-2);
    const auto plain = v.options().requires_grad(false);
    const Tensor dt = golden.in("DT").transpose(1, 2), rate = -golden.in("ADT").transpose(1, 2) / dt;
    const Tensor mix = golden.in("MIMO_V");
    const auto by_rank = [&](const Tensor& of) { return mimo ? of : of.unsqueeze(1); };
    // Ours has one angle for all heads: theirs, head by head, are heads of a batch of their own.
    const auto heads_first = [&](const Tensor& of) {  // [B, T, H, …] -> [B*H, T, …]
      return of.transpose(1, 2).flatten(0, 1);
    };
    const std::int64_t share = heads / groups;
    const auto group_rows = [&](const Tensor& of) {  // [B, T, (R,) G, N] -> [B*H, T, R*N]
      const Tensor full = mimo ? of : of.unsqueeze(2);
      return full.repeat_interleave(share, 3).permute({0, 3, 1, 2, 4}).flatten(0, 1).flatten(2);
    };
    std::vector<Tensor> y, s, angle, key, value;
    for (std::int64_t h = 0; h < heads; ++h) {
      const auto own = [&](const Tensor& of) {  // [B*H, …] -> [B, …]
        return of
            .reshape([&] {
              std::vector<std::int64_t> shape = of.sizes().vec();
              shape[0] = heads;
              shape.insert(shape.begin(), batch);
              return shape;
            }())
            .select(1, h);
      };
      const auto column = [&](const Tensor& of) { return of.narrow(2, h, 1); };  // of [B, T, H]
      const auto parameter = [&](const Tensor& of) { return of.defined() ? of.narrow(0, h, 1) : of; };
      const Tensor f = column(rate), d = column(dt);
      TrapezoidalScanInputs in{.x = own(heads_first(v)),
                               .z = own(heads_first(golden.in("Z"))),
                               .b = own(group_rows(k)),
                               .c = own(group_rows(q)),
                               .dt = d.expm1().log(),
                               .a = at::where(f >= 1.0, f - 1.0, 1.0 - 1.0 / f),
                               .trap = column(golden.in("Trap").transpose(1, 2)),
                               .angle = own(heads_first(angles)),
                               .dt_bias = at::zeros({1}, plain),
                               .b_norm = at::full({states}, 0x1p30, plain),
                               .c_norm = at::full({states}, 0x1p30, plain),
                               .b_bias = parameter(by_rank(golden.in("K_bias"))),
                               .c_bias = parameter(by_rank(golden.in("Q_bias"))),
                               .d = parameter(golden.in("D")),
                               .value_mix = parameter(mix),
                               .gate_mix = parameter(golden.in("MIMO_Z")),
                               .out_mix = parameter(golden.in("MIMO_O")),
                               .halves = mimo,
                               .decay_floor = 1e-12,
                               .epsilon = 0x1p60};
      if (golden.has("ssm0")) {
        const auto initial = [&](const char* name) { return golden.in(name).narrow(1, h, 1); };
        in.state = {.s = initial("ssm0"),
                    .angle = initial("angle0"),
                    .key = mimo ? initial("k0") : initial("k0").unsqueeze(2),
                    .value = mimo ? at::zeros({batch, 1, v.size(3)}, plain) : initial("v0")};
        if (mimo) {
          // Their last value is mixed already, ours is not: its share of the first step goes into S.
          const Tensor first = (in.trap.narrow(1, 0, 1).sigmoid() * -1.0 + 1.0) * d.narrow(1, 0, 1);  // [B, 1, 1]
          const Tensor pairs = initial("v0").transpose(2, 3).matmul(initial("k0"));                   // [B, 1, P, N]
          in.state.s = in.state.s + first.unsqueeze(3) * pairs;
        }
      }
      const TrapezoidalScanResult result = trapezoidal_scan(in, equal_segments(batch, length));
      y.push_back(result.y.unsqueeze(2));
      s.push_back(result.state.s);
      angle.push_back(result.state.angle);
      key.push_back(mimo ? result.state.key : result.state.key.squeeze(2));
      value.push_back(mimo ? result.state.value.unsqueeze(2) * parameter(mix) : result.state.value);
    }
    std::map<std::string, Tensor> results = {{"y", at::cat(y, 2)},
                                             {"final_ssm", at::cat(s, 1)},
                                             {"final_k", at::cat(key, 1)},
                                             {"final_v", at::cat(value, 1)}};
    if (mimo) {
      // Whole turns are taken off in float alone.
      const Tensor ours = at::cat(angle, 1);
      constexpr double kTurn = 2.0 * std::numbers::pi;
      results["final_angle"] = ours + ((golden.out("final_angle") - ours.detach()) / kTurn).round() * kTurn;
    }
    golden.expect(results);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenTrapezoidal,
                         ::testing::Values("m3_siso_scan_L17_initial", "m3_siso_scan_L21", "m3_mimo_scan_L13_initial",
                                           "m3_mimo_scan_L9_G2_initial"));

constexpr std::int64_t kHeads = 2, kWidth = 3, kStates = 4, kGroups = 2, kAngles = 1;

std::map<std::string, Tensor> small_case(std::int64_t rows, std::int64_t rank, bool norm, Random& random) {
  const auto normal = [&](at::IntArrayRef shape) { return tests::normal_tensor(shape, random); };
  std::map<std::string, Tensor> in = {{"x", normal({rows, kHeads * kWidth})},
                                      {"z", normal({rows, kHeads * kWidth})},
                                      {"b", normal({rows, rank * kGroups * kStates})},
                                      {"c", normal({rows, rank * kGroups * kStates})},
                                      {"dt", normal({rows, kHeads})},
                                      {"a", normal({rows, kHeads})},
                                      {"trap", normal({rows, kHeads})},
                                      {"angle", normal({rows, kAngles})},
                                      {"dt_bias", tests::normal_tensor({kHeads}, random, 1.0, -1.0)},
                                      {"b_norm", normal({kStates})},
                                      {"c_norm", normal({kStates})},
                                      {"b_bias", normal({kHeads, rank, kStates})},
                                      {"c_bias", normal({kHeads, rank, kStates})},
                                      {"d", normal({kHeads})}};
  if (rank > 1) {
    for (const char* mix : {"value_mix", "gate_mix", "out_mix"}) in[mix] = normal({kHeads, rank, kWidth});
  }
  if (norm) in["norm"] = normal({kHeads * kWidth});
  return in;
}

TrapezoidalScanInputs inputs_of(const tests::Inputs& in) {
  return {.x = in("x"),
          .z = in("z"),
          .b = in("b"),
          .c = in("c"),
          .dt = in("dt"),
          .a = in("a"),
          .trap = in("trap"),
          .angle = in("angle"),
          .dt_bias = in("dt_bias"),
          .b_norm = in("b_norm"),
          .c_norm = in("c_norm"),
          .b_bias = in("b_bias"),
          .c_bias = in("c_bias"),
          .d = in("d"),
          .value_mix = in("value_mix"),
          .gate_mix = in("gate_mix"),
          .out_mix = in("out_mix"),
          .norm = in("norm"),
          .state = {.s = in("s"), .angle = in("angle0"), .key = in("key"), .value = in("value")},
          .groups = kGroups,
          .halves = in("value_mix").defined(),
          .epsilon = 0.1};  // norms of few small numbers have derivatives that no difference gives
}

TEST(TrapezoidalScan, GradientsAreDerivatives) {
  Random random(3);
  // Row 4 is padding.
  const Segments segments = {{0, 3}, {3, 1}, {5, 2}};
  for (const std::int64_t rank : {1, 2}) {
    for (const bool with_state : {false, true}) {
      SCOPED_TRACE(fmt::format("rank {}, state {}", rank, with_state));
      std::map<std::string, Tensor> in = small_case(7, rank, rank == 1, random);
      if (with_state) {
        in["s"] = tests::normal_tensor({3, kHeads, kWidth, kStates}, random);
        in["angle0"] = tests::normal_tensor({3, kHeads, kAngles}, random);
        in["key"] = tests::normal_tensor({3, kHeads, rank, kStates}, random);
        in["value"] = tests::normal_tensor({3, kHeads, kWidth}, random);
      }
      tests::check_gradients(in, [&](const tests::Inputs& inputs) {
        const TrapezoidalScanResult result = trapezoidal_scan(inputs_of(inputs), segments);
        // Angles but for whole turns, of which only float takes some off.
        return tests::Results{tests::covered_rows(result.y, segments),
                              result.state.s,
                              result.state.angle.sin(),
                              result.state.angle.cos(),
                              result.state.key,
                              result.state.value};
      });
    }
  }
}

TEST(TrapezoidalScan, SaysWhatDoesNotFit) {
  Random random(4);
  TrapezoidalScanInputs in = inputs_of(small_case(2, 1, false, random));
  EXPECT_NO_THROW(trapezoidal_scan(in, {{0, 2}}));
  in.state.s = at::zeros({1, kHeads, kWidth, kStates}, at::kDouble);
  EXPECT_THROW(trapezoidal_scan(in, {{0, 2}}), UserError);  // the rest of the state is missing
  in.state = {};
  in.groups = 3;
  EXPECT_THROW(trapezoidal_scan(in, {{0, 2}}), UserError);
  in.groups = kGroups;
  in.angle = at::zeros({2, 3}, at::kDouble);
  EXPECT_THROW(trapezoidal_scan(in, {{0, 2}}), UserError);
  in.angle = Tensor();
  EXPECT_THROW(trapezoidal_scan(in, {{0, 2}}), UserError);
}

}  // namespace
}  // namespace krait::nn
