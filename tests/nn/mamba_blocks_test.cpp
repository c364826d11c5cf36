// Mamba-2's scan, the norms, and the blocks of Mamba and Mamba-2, against the authors' code.
#include "krait/nn/activations.h"
#include "krait/nn/mamba1_mixer.h"
#include "krait/nn/mamba2_mixer.h"
#include "krait/nn/norms.h"
#include "krait/nn/scan_ssd.h"
#include "tests/nn/golden_operator.h"

namespace krait::nn {
namespace {

constexpr double kBlockTolerance = 2e-5;  // the collection's own, of blocks

class GoldenSsd : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenSsd, AgreesWithTheirs) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const std::string_view name = GetParam();
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    tests::GoldenOperator golden(path, GetParam(), type);
    const Tensor x = golden.in("x"), b = golden.in("B"), d = golden.in("D");  // [B, T, H, P], [B, T, G, N]
    SsdScanInputs in{.x = x.flatten(2),
                     .dt = golden.in("dt"),
                     .a = golden.in("A"),
                     .b = b.flatten(2),
                     .c = golden.in("C").flatten(2),
                     .d = d.flatten(),
                     .dt_bias = golden.in("dt_bias"),
                     .groups = b.size(2)};
    if (golden.has("state0")) in.state = golden.in("state0");
    if (name.ends_with("dtlimit")) {
      in.dt_low = 0.05;
      in.dt_high = 0.2;
    }
    ScanResult result = ssd_scan(in, golden.segments(x.size(0), x.size(1)));
    if (golden.has("z")) result.y = silu_gate(result.y, golden.in("z").flatten(2));
    golden.expect(
        {{"y", result.y.reshape(x.sizes())}, {"final_state", golden.last_states(result.state, x.size(0), x.size(1))}});
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenSsd,
                         ::testing::Values("ssd_L128_G1", "ssd_L128_G2_initial", "ssd_L1_G1", "ssd_L1_G2_initial",
                                           "ssd_L37_G1_z_Dfull", "ssd_L37_G2_dtlimit", "ssd_L37_G2_initial",
                                           "ssd_packed"));

class GoldenNorm : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenNorm, AgreesWithTheirs) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const std::string_view name = GetParam();
  const double epsilon = name == "norm_norm_then_gate_grouped" ? 1e-6 : 1e-5;
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    tests::GoldenOperator golden(path, GetParam(), type);
    const Tensor x = golden.in("x");
    if (!golden.has("z")) {
      golden.expect({{"y", rms_norm(x, golden.in("weight"), epsilon)}});
      continue;
    }
    const auto order =
        name.starts_with("norm_norm_then_gate") ? kernels::GateOrder::kNormThenGate : kernels::GateOrder::kGateThenNorm;
    const std::int64_t groups = name.ends_with("grouped") ? x.size(-1) / 8 : 1;
    golden.expect({{"y", gated_rms_norm(x, golden.in("z"), golden.in("weight"), epsilon, groups, order)}});
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenNorm,
                         ::testing::Values("norm_plain", "norm_gate_then_norm", "norm_gate_then_norm_grouped",
                                           "norm_norm_then_gate", "norm_norm_then_gate_grouped"));

// Every parameter of the mixer is one of the case, and each is compared.
void expect_block(const std::filesystem::path& path, const char* name, at::ScalarType type, Mixer& mixer) {
  tests::GoldenOperator golden(path, name, type);
  for (const auto& parameter : mixer.named_parameters()) {
    ASSERT_TRUE(golden.has("w." + parameter.key())) << parameter.key();
    golden.put("w." + parameter.key(), parameter.value());
  }
  const Tensor u = golden.in("u");
  const Tensor y = mixer.forward(u.flatten(0, 1), {.segments = equal_segments(u.size(0), u.size(1))});
  golden.expect({{"y", y.reshape(u.sizes())}}, kBlockTolerance);
}

TEST(MambaBlocks, MambaAgreesWithTheirs) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    Mamba1Mixer mixer({.width = 12, .inner = 24, .states = 16, .rank = 1});
    expect_block(path, "m1_block", type, mixer);
  }
}

TEST(MambaBlocks, Mamba2AgreesWithTheirs) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    Mamba2Mixer one({.width = 12, .inner = 24, .head_width = 8, .states = 16});
    expect_block(path, "m2_block_G1", type, one);
    Mamba2Mixer two({.width = 16, .inner = 32, .head_width = 4, .states = 16, .groups = 2, .norm_before_gate = true});
    expect_block(path, "m2_block_G2_norm_before_gate", type, two);
  }
}

}  // namespace
}  // namespace krait::nn
