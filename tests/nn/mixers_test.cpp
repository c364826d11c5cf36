// Mixers as modules: the goldens of Mamba-3's block, gradients of all parameters, what rows see of each other, and the
// names that models/ loads.
#include "krait/nn/attention_mixer.h"
#include "krait/nn/bmojo_mixer.h"
#include "krait/nn/gated_delta_mixer.h"
#include "krait/nn/hax_mixer.h"
#include "krait/nn/mamba3_mixer.h"
#include "tests/nn/golden_operator.h"
#include "tests/nn/gradient_check.h"

namespace krait::nn {
namespace {

class GoldenMamba3Block : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenMamba3Block, AgreesWithTheirs) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    tests::GoldenOperator golden(path, GetParam(), type);
    const Tensor u = golden.in("u"), bias = golden.in("w.B_bias");
    const std::int64_t heads = bias.size(0), rank = bias.size(1), states = bias.size(2);
    const std::int64_t inner = golden.in("w.out_proj.weight").size(1), rows = golden.in("w.in_proj.weight").size(0);
    // B and C take 2 G R N rows, angles at most N / 2.
    const std::int64_t rest = rows - 2 * inner - 3 * heads, groups = rest / (2 * rank * states);
    const std::int64_t angles = rest - 2 * groups * rank * states;
    Mamba3Mixer mixer({.width = u.size(2),
                       .inner = inner,
                       .head_width = inner / heads,
                       .states = states,
                       .groups = groups,
                       .mimo = golden.has("w.mimo_x"),
                       .rank = rank,
                       .turning = static_cast<double>(2 * angles) / static_cast<double>(states),
                       .output_norm = golden.has("w.norm.weight")});
    tests::GoldenOperator compared(path, GetParam(), type);
    for (const auto& parameter : mixer.named_parameters()) {
      ASSERT_TRUE(compared.has("w." + parameter.key())) << parameter.key();
      compared.put("w." + parameter.key(), parameter.value());
    }
    const Tensor x = compared.in("u");
    const Tensor y = mixer.forward(x.flatten(0, 1), {.segments = equal_segments(u.size(0), u.size(1))});
    compared.expect({{"y", y.reshape(u.sizes())}}, 2e-5);  // the collection's own, of blocks
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenMamba3Block,
                         ::testing::Values("m3_block_siso", "m3_block_siso_outnorm", "m3_block_siso_rope1_G2",
                                           "m3_block_mimo", "m3_block_mimo_rope1"));

// Small mixers of every kind.
std::map<std::string, std::shared_ptr<Mixer>> small_mixers() {
  const AttentionDimensions attention = {
      .width = 6, .heads = 2, .key_heads = 1, .head_width = 4, .rotary = {.width = 2}, .norms = true};
  AttentionDimensions windowed = attention;
  windowed.window = 2;
  // Norms of few small numbers have derivatives that no difference gives.
  const GatedDeltaDimensions delta = {
      .width = 6, .key_heads = 1, .value_heads = 2, .key_width = 6, .value_width = 3, .epsilon = 1.0};
  const Mamba3Dimensions mamba = {.width = 6, .inner = 4, .head_width = 2, .states = 4};
  Mamba3Dimensions mimo = mamba;
  mimo.mimo = true;
  mimo.rank = 2;
  return {{"attention", std::make_shared<AttentionMixer>(attention)},
          {"window", std::make_shared<AttentionMixer>(windowed)},
          {"delta", std::make_shared<GatedDeltaMixer>(delta)},
          {"mamba3", std::make_shared<Mamba3Mixer>(mamba)},
          {"mimo", std::make_shared<Mamba3Mixer>(mimo)},
          {"bmojo", std::make_shared<BmojoMixer>(BmojoDimensions{.attention = windowed, .eidetic = 2},
                                                 std::make_shared<GatedDeltaMixer>(delta), "gdn")},
          {"untied", std::make_shared<BmojoMixer>(BmojoDimensions{.attention = windowed, .tied = false},
                                                  std::make_shared<GatedDeltaMixer>(delta), "gdn")},
          {"hax", std::make_shared<HaxMixer>(HaxDimensions{
                      .mamba = {.width = 6, .inner = 4, .states = 3}, .hashes = 1, .recent = 2, .selected = 2})}};
}

bool reads_prefixes(const std::string& name) { return name != "bmojo" && name != "untied" && name != "hax"; }

// What only chooses what is read has no gradient of the model's loss (docs/decisions/0016).
bool only_chooses(const std::string& parameter) {
  return parameter.starts_with("dx_proj") || parameter == "hash_projection";
}

// Parameters in double, of normal numbers: at their beginnings many are alike.
void randomise(Mixer& mixer, Random& random) {
  for (Tensor parameter : mixer.parameters()) {
    parameter.set_data(tests::normal_tensor(parameter.sizes(), random, 0.5));
  }
}

TEST(Mixers, GradientsOfParametersAreDerivatives) {
  Random random(13);
  const Tensor u = tests::normal_tensor({7, 6}, random), weights = tests::normal_tensor({7, 6}, random);
  for (const auto& [name, mixer] : small_mixers()) {
    SCOPED_TRACE(name);
    Batch batch = {.segments = {{0, 5}, {5, 2}}};
    if (reads_prefixes(name)) batch.prefixes = {3, 0};
    randomise(*mixer, random);
    const Tensor x = u.clone().set_requires_grad(true);
    (mixer->forward(x, batch) * weights).sum().backward();
    const auto check = [&](const std::string& what, const Tensor& values, const Tensor& gradient) {
      ASSERT_TRUE(gradient.defined()) << what;
      const Tensor flat = gradient.contiguous();
      const double largest = std::max(1.0, tests::largest_of(flat));
      const at::NoGradGuard guard;
      for (std::int64_t i = 0; i < values.numel(); ++i) {
        const double derivative = tests::derivative_by_differences(
            values.data_ptr<double>()[i], [&] { return (mixer->forward(x, batch) * weights).sum().item<double>(); });
        ASSERT_NEAR(derivative, flat.data_ptr<double>()[i], 1e-8 * largest) << what << " [" << i << "]";
      }
    };
    check("u", x, x.grad());
    for (const auto& parameter : mixer->named_parameters()) {
      if (only_chooses(parameter.key())) {
        EXPECT_FALSE(parameter.value().grad().defined()) << parameter.key();
        continue;
      }
      check(parameter.key(), parameter.value(), parameter.value().grad());
    }
  }
}

// A row sees those before it in its segment, and in a prefix all of it.
TEST(Mixers, RowsSeeWhatTheyMay) {
  Random random(14);
  const at::NoGradGuard guard;
  for (const auto& [name, mixer] : small_mixers()) {
    SCOPED_TRACE(name);
    randomise(*mixer, random);
    Batch batch = {.segments = {{0, 5}, {5, 4}}};
    if (reads_prefixes(name)) batch.prefixes = {0, 2};
    const Tensor u = tests::normal_tensor({9, 6}, random);
    const Tensor y = mixer->forward(u, batch);
    for (std::int64_t row = 0; row < 9; ++row) {
      Tensor other = u.clone();
      other.narrow(0, row, 1).add_(1.0);
      const Tensor moved = (mixer->forward(other, batch) - y).abs().amax(1);
      for (std::int64_t t = 0; t < 9; ++t) {
        const bool same = (row < 5) == (t < 5);
        const bool in_prefix = !batch.prefixes.empty() && row >= 5 && row < 7 && t >= 5 && t < 7;
        const double by = moved.data_ptr<double>()[t];
        if (!same || (t < row && !in_prefix)) {
          EXPECT_EQ(by, 0.0) << "row " << t << " sees row " << row;
        } else if (t == row || in_prefix) {
          EXPECT_GT(by, 0.0) << "row " << t << " does not see row " << row;
        }
      }
    }
  }
}

TEST(Mixers, BeginFiniteAndTrainInFloat) {
  Random random(15);
  const Tensor u = tests::normal_tensor({7, 6}, random).to(at::kFloat);
  for (const auto& [name, mixer] : small_mixers()) {
    SCOPED_TRACE(name);
    const Tensor y = mixer->forward(u, {.segments = {{0, 4}, {5, 2}}});  // row 4 is padding
    EXPECT_TRUE(y.narrow(0, 0, 4).isfinite().all().item<bool>());
    (y.narrow(0, 0, 4).square().sum() + y.narrow(0, 5, 2).square().sum()).backward();
    for (const auto& parameter : mixer->named_parameters()) {
      if (only_chooses(parameter.key())) continue;
      ASSERT_TRUE(parameter.value().grad().defined()) << parameter.key();
      EXPECT_TRUE(parameter.value().grad().isfinite().all().item<bool>()) << parameter.key();
    }
  }
}

std::vector<std::string> names_of(const Mixer& mixer) {
  std::vector<std::string> names;
  for (const auto& parameter : mixer.named_parameters()) names.push_back(parameter.key());
  std::ranges::sort(names);
  return names;
}

TEST(Mixers, HaveTheNamesThatModelsLoad) {
  const auto mixers = small_mixers();
  EXPECT_EQ(names_of(*mixers.at("delta")),
            (std::vector<std::string>{"A_log", "conv1d.weight", "dt_bias", "in_proj_a.weight", "in_proj_b.weight",
                                      "in_proj_qkv.weight", "in_proj_z.weight", "norm.weight", "out_proj.weight"}));
  EXPECT_EQ(names_of(*mixers.at("attention")),
            (std::vector<std::string>{"k_norm.weight", "k_proj.weight", "o_proj.weight", "q_norm.weight",
                                      "q_proj.weight", "v_proj.weight"}));
  const auto bmojo = names_of(*mixers.at("untied"));
  for (const char* name :
       {"bmojo_attn.q_proj_.weight", "bmojo_attn.k_norm_.weight", "bmojo_attn.o_proj.weight", "gdn.A_log"}) {
    EXPECT_TRUE(std::ranges::find(bmojo, name) != bmojo.end()) << name;
  }
}

TEST(Mixers, SayWhatDoesNotFit) {
  EXPECT_THROW(Mamba3Mixer({.width = 6, .head_width = 5}), UserError);
  EXPECT_THROW(Mamba3Mixer({.width = 6, .head_width = 6, .states = 3}), UserError);
  EXPECT_THROW(GatedDeltaMixer({.width = 6, .key_heads = 2, .value_heads = 3}), UserError);
  EXPECT_THROW(AttentionMixer({.width = 6, .heads = 4}), UserError);
  EXPECT_THROW(BmojoMixer({.attention = {.width = 6, .heads = 2}}, nullptr, "gdn"), UserError);
  const auto mixers = small_mixers();
  const Tensor u = at::zeros({4, 6});
  EXPECT_THROW(mixers.at("bmojo")->forward(u, {.segments = {{0, 4}}, .prefixes = {2}}), UserError);
  EXPECT_THROW(mixers.at("mamba3")->forward(u, {.segments = {{0, 5}}}), UserError);
}

}  // namespace
}  // namespace krait::nn
