// HAX as a module: logits that an implementation by definition gave (tests/golden/reference/hax.py), the same in double
// and in float, and the loss by which scores learn. Its gradients and what its rows see: mixers_test.cpp.
#include "krait/nn/hax_mixer.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "krait/nn/conv1d_causal.h"
#include "krait/nn/language_model.h"
#include "tests/kernels/golden_tensors.h"
#include "tests/nn/gradient_check.h"

namespace krait::nn {
namespace {

TEST(HaxMixer, GivesTheLogitsOfTheDefinition) {
  const std::filesystem::path folder = std::filesystem::path(KRAIT_SOURCE_DIR) / "tests/golden/hax_mamba";
  const tests::Golden weights(folder / "model.safetensors");
  std::ifstream config_file(folder / "config.json"), logits_file(folder / "logits.json");
  const auto config = nlohmann::json::parse(config_file), golden = nlohmann::json::parse(logits_file);
  const std::int64_t keys = config["sparse_keys"];
  const HaxDimensions dimensions = {.mamba = {.width = config["hidden_size"],
                                              .inner = config["intermediate_size"],
                                              .states = config["state_size"],
                                              .rank = config["time_step_rank"],
                                              .conv_width = config["conv_kernel"]},
                                    .hashes = config["num_hash"],
                                    .recent = keys / 2,
                                    .selected = keys / 2};
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    LanguageModel model({.vocabulary = config["vocab_size"],
                         .width = dimensions.mamba.width,
                         .layers = config["num_hidden_layers"],
                         .tied = false,
                         .epsilon = config["layer_norm_epsilon"]},
                        [&](std::int64_t) { return std::make_shared<HaxMixer>(dimensions); });
    for (const auto& parameter : model.named_parameters()) {
      std::string name = parameter.key();
      if (name == "backbone.embedding.weight") name = "backbone.embeddings.weight";  // as transformers has it
      ASSERT_TRUE(weights.has(name)) << name;
      const tests::Tensor read = weights.read(name);
      ASSERT_EQ(parameter.value().sizes().vec(), read.shape) << name;
      const Tensor values = at::empty(read.shape, at::kDouble);
      std::ranges::copy(read.values, values.data_ptr<double>());
      Tensor(parameter.value()).set_data(values.to(type));
    }
    const at::NoGradGuard guard;
    // All sequences as one batch: choices do not cross from one to the next.
    std::vector<std::int32_t> ids;
    std::vector<double> expected;
    Segments segments;
    for (std::size_t s = 0; s < golden["sequences"].size(); ++s) {
      const auto sequence = golden["sequences"][s].get<std::vector<std::int32_t>>();
      segments.push_back({static_cast<std::int64_t>(ids.size()), static_cast<std::int64_t>(sequence.size())});
      ids.insert(ids.end(), sequence.begin(), sequence.end());
      for (const auto& row : golden["logits"][s]) {
        for (const double logit : row) expected.push_back(logit);
      }
    }
    const Tensor logits = model.logits(ids, {.segments = segments}).to(at::kDouble).contiguous();
    ASSERT_EQ(static_cast<std::size_t>(logits.numel()), expected.size());
    double largest = 0.0, difference = 0.0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      largest = std::max(largest, std::fabs(expected[i]));
      difference = std::max(difference, std::fabs(expected[i] - logits.data_ptr<double>()[i]));
    }
    // Two layers' roundings, as for the models' own goldens; hashes and scores are f32 in both.
    EXPECT_LE(difference, 2e-5 * largest) << c10::toString(type);
  }
}

Tensor named(const HaxMixer& mixer, const std::string& name) { return *mixer.named_parameters().find(name); }

TEST(HaxMixer, ScoresLearnByTheirOwnLoss) {
  Random random(3);
  HaxMixer mixer({.mamba = {.width = 6, .inner = 4, .states = 3},
                  .hashes = 1,
                  .recent = 2,
                  .selected = 2,
                  .ranking_weight = 0.25});
  for (Tensor parameter : mixer.parameters()) {
    parameter.set_data(tests::normal_tensor(parameter.sizes(), random, 0.5));
  }
  Batch batch = {.segments = {{0, 8}, {8, 6}}};
  const Tensor u = tests::normal_tensor({14, 6}, random);
  const auto gradients = [&](const Batch& of) {
    mixer.zero_grad();
    mixer.forward(u, of).sum().backward();
    std::map<std::string, Tensor> result;
    for (const auto& parameter : mixer.named_parameters()) {
      if (parameter.value().grad().defined()) result[parameter.key()] = parameter.value().grad().clone();
    }
    return result;
  };
  const auto alone = gradients(batch);
  batch.own_losses = 0.5;
  batch.pass = 9;
  const auto learning = gradients(batch);
  // What the model's loss gives is what it was.
  for (const auto& [name, gradient] : alone) {
    if (name.starts_with("dx_proj")) continue;
    EXPECT_EQ(tests::largest_of(gradient - learning.at(name)), 0.0) << name;
  }
  // The scores' share is the derivative of their loss, by differences, times weight and share.
  const Tensor x = conv1d_causal(nn::linear(u, named(mixer, "in_proj.weight")).narrow(1, 0, 4),
                                 named(mixer, "conv1d.weight"), named(mixer, "conv1d.bias"), batch.segments)
                       .y.detach();
  for (const char* name : {"dx_proj_1.weight", "dx_proj_1.bias", "dx_proj_2.weight", "dx_proj_3.weight"}) {
    const at::NoGradGuard guard;
    const Tensor values = named(mixer, name), gradient = learning.at(name).contiguous();
    for (std::int64_t i = 0; i < values.numel(); ++i) {
      const double derivative = tests::derivative_by_differences(
          values.data_ptr<double>()[i], [&] { return mixer.ranking_loss(x, batch).item<double>(); });
      ASSERT_NEAR(0.25 * 0.5 * derivative, gradient.data_ptr<double>()[i], 1e-8) << name << " [" << i << "]";
    }
  }
  // What is drawn follows from the pass alone.
  const auto again = gradients(batch);
  batch.pass = 10;
  const auto other = gradients(batch);
  EXPECT_EQ(tests::largest_of(again.at("dx_proj_1.weight") - learning.at("dx_proj_1.weight")), 0.0);
  EXPECT_GT(tests::largest_of(other.at("dx_proj_1.weight") - learning.at("dx_proj_1.weight")), 0.0);
}

TEST(HaxMixer, IsMambaWhereNothingIsAdded) {
  const HaxDimensions dimensions = {.mamba = {.width = 6, .inner = 4, .states = 3}, .recent = 0, .selected = 3};
  HaxMixer hax(dimensions);
  Mamba1Mixer mamba(dimensions.mamba);
  const at::NoGradGuard guard;
  for (const auto& parameter : mamba.named_parameters()) parameter.value().copy_(named(hax, parameter.key()));
  named(hax, "E").zero_();
  const Tensor u = at::randn({9, 6});
  const Batch batch = {.segments = {{0, 5}, {5, 4}}};
  // The gate is the scan's own in one and not in the other.
  const Tensor plain = mamba.forward(u, batch);
  EXPECT_LE(tests::largest_of(hax.forward(u, batch) - plain), 1e-6 * tests::largest_of(plain));
  EXPECT_FALSE(hax.named_parameters().contains("hash_projection"));
}

TEST(HaxMixer, SaysWhatDoesNotFit) {
  const Mamba1Dimensions mamba = {.width = 6, .inner = 4, .states = 3};
  EXPECT_THROW(HaxMixer({.mamba = mamba, .recent = 0, .selected = 0}), UserError);
  EXPECT_THROW(HaxMixer({.mamba = mamba, .recent = 4096, .selected = 1}), UserError);
  EXPECT_THROW(HaxMixer({.mamba = mamba, .hashes = 17}), UserError);
  HaxMixer mixer({.mamba = mamba});
  EXPECT_THROW(mixer.forward(at::zeros({4, 6}), {.segments = {{0, 4}}, .prefixes = {2}}), UserError);
}

}  // namespace
}  // namespace krait::nn
