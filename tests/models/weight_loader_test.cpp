#include "krait/models/weight_loader.h"

#include <gtest/gtest.h>

#include <map>

#include "krait/models/registry.h"
#include "krait/models/synthetic.h"

namespace krait::tests {
namespace {

constexpr models::SyntheticShape kTiny = {"tiny", "mamba2", 2, 16, 33, 8, 8};

// A good checkpoint with one thing changed.
class ChangedSource final : public formats::WeightSource {
 public:
  explicit ChangedSource(const models::SyntheticShape& shape = kTiny)
      : good_(models::make_synthetic(shape, DType::kF32, 1)), config_(good_->config()) {
    tensors_.assign(good_->tensors().begin(), good_->tensors().end());
  }
  void set(const std::string& key, formats::Config::Value value) { config_.set(key, std::move(value)); }
  void drop(const std::string& name) {
    std::erase_if(tensors_, [&](const auto& tensor) { return tensor.name == name; });
  }
  void reshape(const std::string& name, Shape shape) {
    for (auto& tensor : tensors_) {
      if (tensor.name == name) tensor.shape = shape;
    }
  }

  std::string_view format() const override { return "changed"; }
  const formats::Config& config() const override { return config_; }
  std::span<const formats::TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return "changed.safetensors"; }
  Result<TensorView> view(std::string_view name) const override {
    const auto* info = find(name);
    if (info == nullptr) return fail(ErrorCode::kNotFound, "no tensor {} in {}", name, origin());
    auto view = good_->view(name);
    if (view) view->shape = info->shape;
    return view;
  }

 private:
  std::unique_ptr<formats::WeightSource> good_;
  formats::Config config_;
  std::vector<formats::TensorInfo> tensors_;
};

std::string load_error(std::shared_ptr<ChangedSource> source, models::LoadOptions options = {}) {
  const auto model = models::load_model(std::move(source), options);
  return model ? std::string() : model.error().message;
}

TEST(WeightLoader, LoadsAGoodCheckpoint) { EXPECT_EQ(load_error(std::make_shared<ChangedSource>()), ""); }

TEST(WeightLoader, NamesAMissingTensorAndItsFile) {
  auto source = std::make_shared<ChangedSource>();
  source->drop("backbone.layers.1.mixer.out_proj.weight");
  const std::string error = load_error(source);
  EXPECT_NE(error.find("backbone.layers.1.mixer.out_proj.weight"), std::string::npos) << error;
  EXPECT_NE(error.find("changed.safetensors"), std::string::npos) << error;
}

TEST(WeightLoader, NamesAWrongShapeAndTheExpectedOne) {
  auto source = std::make_shared<ChangedSource>();
  source->reshape("backbone.layers.0.mixer.in_proj.weight", {84, 15});
  const std::string error = load_error(source);
  EXPECT_NE(error.find("backbone.layers.0.mixer.in_proj.weight"), std::string::npos) << error;
  EXPECT_NE(error.find("[84, 15]"), std::string::npos) << error;
  EXPECT_NE(error.find("[84, 16]"), std::string::npos) << error;
}

TEST(WeightLoader, RefusesSizesThatAreNoSizes) {
  for (const std::int64_t size : {std::int64_t{0}, std::int64_t{-3}, std::int64_t{1} << 40}) {
    auto source = std::make_shared<ChangedSource>();
    source->set("state_size", size);
    const std::string error = load_error(source);
    EXPECT_NE(error.find("state_size"), std::string::npos) << error;
    EXPECT_NE(error.find(std::to_string(size)), std::string::npos) << error;
  }
}

TEST(WeightLoader, RefusesAConfigurationOfTheWrongType) {
  auto source = std::make_shared<ChangedSource>();
  source->set("hidden_size", std::string("wide"));
  EXPECT_NE(load_error(source).find("hidden_size"), std::string::npos);
}

TEST(WeightLoader, RefusesHeadsThatDoNotDivideIntoGroups) {
  auto source = std::make_shared<ChangedSource>();
  source->set("n_groups", std::int64_t{3});
  EXPECT_NE(load_error(source).find("4 heads do not divide into 3 groups"), std::string::npos);
}

TEST(WeightLoader, RefusesTimeStepLimitsOutOfOrder) {
  auto source = std::make_shared<ChangedSource>();
  source->set("time_step_limit", std::vector<double>{1.0, 0.5});
  EXPECT_NE(load_error(source).find("time_step_limit"), std::string::npos);
}

TEST(WeightLoader, AnUntiedModelWithoutAHeadIsAnError) {
  auto source = std::make_shared<ChangedSource>();
  source->set("tie_word_embeddings", false);
  EXPECT_NE(load_error(source).find("lm_head.weight"), std::string::npos);
}

TEST(WeightLoader, RefusesAFormatThatOnlyFilesHave) {
  models::LoadOptions options;
  options.weights = kernels::PanelFormat::kQ4K;
  EXPECT_NE(load_error(std::make_shared<ChangedSource>(), options).find("q4_k"), std::string::npos);
}

TEST(WeightLoader, CountsParametersBytesAndOperations) {
  const auto model = models::load_model(models::make_synthetic(kTiny, DType::kF32, 1));
  ASSERT_TRUE(model) << model.error().message;
  const models::ModelInfo& info = (*model)->info();
  // E = 32, H = 4, in_proj [32+48+4, 16], conv [48, 4] and bias, 3 vectors of 4, norms of 32 and 16, out_proj [16, 32].
  const std::int64_t layer = 84 * 16 + 48 * 4 + 48 + 3 * 4 + 32 + 16 + 16 * 32;
  EXPECT_EQ(info.parameters, 33 * 16 + 16 + 2 * layer);
  // Panels of 16 outputs: 33 become 48, 84 become 96.
  const std::int64_t padding = 15 * 16 + 2 * 12 * 16;
  EXPECT_EQ(info.weight_bytes, 4 * static_cast<std::uint64_t>(info.parameters + padding));
  EXPECT_EQ(info.decode_weight_bytes, info.weight_bytes);  // the tied head reads the whole embedding
  EXPECT_EQ(info.matmul_flops_per_token, 2U * 2 * (84 * 16 + 16 * 32));
  EXPECT_EQ(info.head_flops, 2U * 33 * 16);
}

TEST(WeightLoader, ShapesOnlyReadsNothingAndKnowsTheState) {
  models::LoadOptions options;
  options.shapes_only = true;
  const auto model = models::load_model(models::make_synthetic(kTiny, DType::kF32, 1), options);
  ASSERT_TRUE(model) << model.error().message;
  const auto full = models::load_model(models::make_synthetic(kTiny, DType::kF32, 1));
  ASSERT_TRUE(full);
  EXPECT_EQ((*model)->state_layout().bytes(), (*full)->state_layout().bytes());
  EXPECT_EQ((*model)->info().parameters, (*full)->info().parameters);
}

TEST(Registry, NamesWhatItCannotRun) {
  auto source = std::make_shared<ChangedSource>();
  source->set("model_type", std::string("gpt5"));
  const std::string error = load_error(source);
  EXPECT_NE(error.find("gpt5"), std::string::npos) << error;
  EXPECT_NE(error.find("mamba2"), std::string::npos) << error;
}

TEST(Registry, RecognisesConfigurationsWithoutAModelType) {
  const auto name = [](const char* json) {
    return models::architecture_name(*formats::Config::parse_json(json, "config.json")).value_or("none");
  };
  EXPECT_EQ(name(R"({"d_model": 8, "n_layer": 1, "ssm_cfg": {}})"), "mamba");
  EXPECT_EQ(name(R"({"d_model": 8, "n_layer": 1, "ssm_cfg": {"layer": "Mamba2"}, "attn_layer_idx": []})"), "mamba2");
  EXPECT_EQ(name(R"({"d_model": 8, "n_layer": 1, "attn_layer_idx": [3]})"), "mamba_attention_hybrid");
  EXPECT_EQ(name(R"({"dim": 8, "n_layers": 1, "n_groups": 8, "model_type": "mamba"})"), "mamba2");
  EXPECT_EQ(name(R"({"vocab_size": 8})"), "none");
}

constexpr models::SyntheticShape kTinyMamba3 = {"tiny", "mamba3", 1, 16, 33, 8, 8};

TEST(WeightLoader, Mamba3NamesWhatDoesNotFit) {
  const auto error_with = [](const char* key, formats::Config::Value value) {
    auto source = std::make_shared<ChangedSource>(kTinyMamba3);
    source->set(key, std::move(value));
    return load_error(source);
  };
  EXPECT_EQ(load_error(std::make_shared<ChangedSource>(kTinyMamba3)), "");
  EXPECT_NE(error_with("ssm_cfg.headdim", std::int64_t{5})
                .find("inner width of 32 does not divide into heads of "
                      "ssm_cfg.headdim 5"),
            std::string::npos);
  EXPECT_NE(error_with("ssm_cfg.rope_fraction", 1.5).find("ssm_cfg.rope_fraction is 1.5"), std::string::npos);
  EXPECT_NE(error_with("ssm_cfg.d_state", std::int64_t{7}).find("ssm_cfg.d_state is 7"), std::string::npos);
  EXPECT_NE(error_with("ssm_cfg.ngroups", std::int64_t{3}).find("4 heads do not divide into 3 groups"),
            std::string::npos);
  // Another rank asks for a wider projection than the file has.
  EXPECT_NE(error_with("ssm_cfg.is_mimo", true).find("in_proj.weight"), std::string::npos);
}

}  // namespace
}  // namespace krait::tests
