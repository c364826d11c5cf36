// Configurations and checkpoints that contradict themselves: each is refused with a message that names the field or
// tensor, and what was found or expected. Configurations are planned (models/planned_source.h), so no weights exist.
#include <gtest/gtest.h>

#include <optional>

#include "krait/models/planned_source.h"
#include "krait/models/registry.h"
#include "tests/formats/error_expectation.h"
#include "tests/support/tiny_models.h"

namespace krait::tests {
namespace {

using formats::Config;
using models::SyntheticShape;

std::int64_t operator""_i(unsigned long long value) { return static_cast<std::int64_t>(value); }

const SyntheticShape& tiny(std::string_view name) {
  return *std::ranges::find(kTinyModels, name, &SyntheticShape::name);
}

// Another value of one key, or none.
struct Case {
  std::string_view model;
  std::string key;
  std::optional<Config::Value> value;
  std::vector<std::string_view> parts;  // of the message
};

Config changed(const Case& c) {
  const auto original = Config::parse_json(tiny(c.model).config, "config.json");
  if (!original) throw std::runtime_error(original.error().message);
  Config result("config.json");
  for (const auto& [key, value] : original->values()) {
    if (key != c.key) result.set(key, value);
  }
  if (c.value) result.set(c.key, *c.value);
  return result;
}

const std::vector<Case>& config_cases() {
  using Texts = std::vector<std::string>;
  using Integers = std::vector<std::int64_t>;
  using Numbers = std::vector<double>;
  static const std::vector<Case> cases = {
      // Missing fields.
      {"tiny-jamba", "hidden_size", std::nullopt, {"hidden_size", "config.json"}},
      {"tiny-jamba", "num_hidden_layers", std::nullopt, {"num_hidden_layers"}},
      {"tiny-jamba", "intermediate_size", std::nullopt, {"intermediate_size"}},
      {"tiny-jamba", "num_attention_heads", std::nullopt, {"num_attention_heads"}},
      {"tiny-jamba", "vocab_size", std::nullopt, {"vocab_size"}},
      {"tiny-nemotron-h", "hybrid_override_pattern", std::nullopt, {"layers_block_type"}},
      {"tiny-nemotron-h", "mamba_num_heads", std::nullopt, {"mamba_num_heads"}},
      {"tiny-nemotron-h", "moe_intermediate_size", std::nullopt, {"moe_intermediate_size"}},
      {"tiny-nemotron-h", "moe_shared_expert_intermediate_size", std::nullopt, {"moe_shared_expert_intermediate_size"}},
      {"tiny-bamba", "mamba_n_heads", std::nullopt, {"mamba_n_heads"}},
      {"tiny-bamba", "intermediate_size", std::nullopt, {"intermediate_size"}},
      {"tiny-granite", "layer_types", std::nullopt, {"layers_block_type"}},
      {"tiny-granite", "num_experts_per_tok", std::nullopt, {"num_experts_per_tok"}},
      {"tiny-falcon-h1", "intermediate_size", std::nullopt, {"intermediate_size"}},
      {"tiny-falcon-h1", "num_attention_heads", std::nullopt, {"num_attention_heads"}},
      {"tiny-qwen3-next", "num_experts_per_tok", std::nullopt, {"num_experts_per_tok"}},
      {"tiny-qwen3-next", "moe_intermediate_size", std::nullopt, {"moe_intermediate_size"}},
      {"tiny-qwen3-5", "text_config.intermediate_size", std::nullopt, {"text_config.intermediate_size"}},
      {"tiny-zamba2", "num_attention_heads", std::nullopt, {"num_attention_heads"}},
      {"tiny-phi4flash", "intermediate_size", std::nullopt, {"intermediate_size"}},
      {"tiny-phi4flash", "sliding_window", std::nullopt, {"sliding_window"}},
      {"tiny-samba", "n_head", std::nullopt, {"n_head"}},
      {"tiny-samba", "n_layer", std::nullopt, {"n_layer"}},
      {"tiny-hax-mamba", "num_hash", std::nullopt, {"num_hash"}},
      {"tiny-hax-mamba", "state_size", 9000000_i, {"state of more than 1073741824 bytes a layer"}},
      {"tiny-hybrid-qwen3", "hybrid_override_pattern", std::nullopt, {"hybrid_override_pattern is missing"}},
      {"tiny-hybrid-qwen3", "swa_config.window_size", std::nullopt, {"swa_config.window_size"}},
      // Of the wrong type, or no size.
      {"tiny-hax-mamba", "sparse_arch", true, {"sparse_arch", "config.json"}},
      {"tiny-hax-mamba", "sparse_keys", 0_i, {"sparse_keys is 0"}},
      {"tiny-hax-mamba", "sparse_keys", 1_i, {"sparse_keys is 1", "2 … 4096"}},
      {"tiny-hax-mamba2", "sparse_keys", 5000_i, {"sparse_keys is 5000", "4096"}},
      {"tiny-hax-mamba2", "num_hash", 17_i, {"num_hash is 17", "16"}},
      {"tiny-hax-mamba2", "num_heads", 9000000_i, {"state of more than 1073741824 bytes a layer"}},
      {"tiny-hybrid-qwen3", "bmojo_config.window_size", 0_i, {"bmojo_config.window_size is 0"}},
      {"tiny-hybrid-qwen3", "bmojo_config.tie_attn_weights", std::string("no"), {"bmojo_config.tie_attn_weights"}},
      {"tiny-bmojo-eidetic", "bmojo_config.eidetic_size", std::int64_t{-1}, {"bmojo_config.eidetic_size is -1"}},
      {"tiny-bmojo-eidetic", "gdn_config.conv_size", 17_i, {"q_conv1d", "17", "16"}},
      {"tiny-jamba", "hidden_size", std::string("40"), {"hidden_size", "config.json"}},
      {"tiny-jamba", "hidden_size", 0_i, {"hidden_size is 0"}},
      {"tiny-jamba", "num_hidden_layers", std::int64_t{-2}, {"num_hidden_layers is -2"}},
      {"tiny-jamba", "mamba_d_state", 0_i, {"mamba_d_state is 0"}},
      {"tiny-jamba", "intermediate_size", 999999999_i, {"intermediate_size is 999999999"}},
      {"tiny-jamba", "mamba_d_conv", 40_i, {"conv", "40", "16"}},
      {"tiny-bamba", "mamba_d_conv", 17_i, {"conv", "17", "16"}},
      {"tiny-lfm2", "conv_L_cache", 99_i, {"conv", "99", "16"}},
      {"tiny-qwen3-next", "linear_conv_kernel_dim", 64_i, {"conv", "64", "16"}},
      {"tiny-jamba", "rms_norm_eps", std::string("small"), {"rms_norm_eps"}},
      {"tiny-jamba", "tie_word_embeddings", std::string("yes"), {"tie_word_embeddings"}},
      {"tiny-bamba", "attn_layer_indices", std::string("1"), {"attn_layer_indices"}},
      {"tiny-falcon-h1", "ssm_multipliers", Numbers{1.0, 2.0}, {"ssm_multipliers", "5"}},
      {"tiny-falcon-h1", "mlp_multipliers", 2.0, {"mlp_multipliers", "2"}},
      // Contradictions.
      {"tiny-jamba", "num_key_value_heads", 3_i, {"4 query heads", "3 of keys"}},
      {"tiny-jamba", "num_attention_heads", 7_i, {"40", "7 heads"}},
      {"tiny-jamba", "num_experts_per_tok", 9_i, {"9 of 5 experts"}},
      {"tiny-nemotron-h", "num_hidden_layers", 9_i, {"num_hidden_layers is 9", "4 layers"}},
      {"tiny-nemotron-h", "n_group", 3_i, {"8 experts", "3 groups"}},
      {"tiny-nemotron-h", "topk_group", 5_i, {"5 of 4 groups"}},
      {"tiny-nemotron-h", "n_groups", 4_i, {"6 heads", "4 groups"}},
      {"tiny-nemotron-h", "time_step_limit", Numbers{0.5, 0.1}, {"time_step_limit"}},
      {"tiny-bamba", "attn_layer_indices", Integers{7}, {"attn_layer_indices", "layer 7 of 3"}},
      {"tiny-bamba", "mamba_d_head", 13_i, {"mamba_n_heads 6", "mamba_d_head 13", "72"}},
      {"tiny-bamba", "mamba_n_groups", 4_i, {"6 heads", "4 groups"}},
      {"tiny-bamba", "partial_rotary_factor", 1.5, {"partial_rotary_factor is 1.5"}},
      {"tiny-bamba", "rope_theta", -1.0, {"rope_theta is -1"}},
      {"tiny-bamba", "partial_rotary_factor", 0.25, {"rotary positions of 3"}},
      {"tiny-granite", "layer_types", Texts{"mamba"}, {"layer_types", "1 entries for 2 layers"}},
      {"tiny-granite", "logits_scaling", 0.0, {"logits_scaling is 0"}},
      {"tiny-falcon-h1", "mamba_d_ssm", 50_i, {"mamba_n_heads 4", "50"}},
      {"tiny-lfm2", "layer_types", Texts{"conv", "conv"}, {"layer_types", "2 entries for 3 layers"}},
      {"tiny-qwen3-next", "linear_num_value_heads", 3_i, {"3 value heads", "2 key heads"}},
      {"tiny-zamba2", "mamba_headdim", 13_i, {"n_mamba_heads 6", "mamba_headdim 13", "72"}},
      {"tiny-zamba2", "hybrid_layer_ids", Integers{1, 5}, {"hybrid_layer_ids", "layer 5 of 5"}},
      {"tiny-phi4flash", "num_hidden_layers", 6_i, {"num_hidden_layers is 6", "multiple of 4"}},
      {"tiny-phi4flash", "num_key_value_heads", 3_i, {"6 query heads", "3 key heads"}},
      {"tiny-samba", "n_query_groups", 4_i, {"6 query heads", "4 of keys"}},
      {"tiny-samba", "head_size", 9000000_i, {"attn.attn.weight", "90000000 rows"}},
      {"tiny-qwen3-next", "linear_key_head_dim", 16000000_i, {"in_proj_qkvz", "rows"}},
      {"tiny-hybrid-qwen3", "num_key_value_heads", 3_i, {"4 heads", "share 3"}},
      {"tiny-hybrid-qwen3", "head_dim", 16000000_i, {"4 heads of 16000000"}},
      {"tiny-hybrid-qwen3", "num_key_value_heads", 8_i, {"4 heads", "share 8"}},
      {"tiny-bmojo-eidetic", "num_key_value_heads", 4_i, {"6 heads", "share 4"}},
      {"tiny-hybrid-qwen3", "hybrid_override_pattern", std::string("M2-BMF"), {"2 layers", "num_hidden_layers is 4"}},
      // Kinds that are not known.
      {"tiny-hybrid-qwen3", "hybrid_override_pattern", std::string("M2-GKA-SWA-*"), {"layer 1", "GKA", "Kalma"}},
      {"tiny-hybrid-qwen3", "hybrid_override_pattern", std::string("M2*-BMF-SWA-*"), {"layer 0", "\"M2*\""}},
      {"tiny-hybrid-qwen3", "bmojo_config.ssm_mixer", std::string("gka"), {"bmojo_config.ssm_mixer is gka"}},
      {"tiny-hybrid-qwen3", "hidden_act", std::string("gelu"), {"hidden_act is gelu"}},
      {"tiny-bmojo-eidetic", "gdn_config.use_gate", false, {"gdn_config.use_gate is false"}},
      {"tiny-bmojo-eidetic", "gdn_config.kv_proj_rank", 4_i, {"gdn_config.kv_proj_rank"}},
      {"tiny-jamba", "model_type", std::string("llama"), {"llama", "jamba"}},
      {"tiny-nemotron-h", "hybrid_override_pattern", std::string("M*?E"), {"hybrid_override_pattern", "'?'"}},
      {"tiny-nemotron-h", "mlp_hidden_act", std::string("gelu"), {"mlp_hidden_act is gelu"}},
      {"tiny-bamba", "rope_scaling.rope_type", std::string("yarn"), {"rope_scaling.rope_type is yarn"}},
      {"tiny-granite", "layer_types", Texts{"mamba", "conv"}, {"layer_types", "\"conv\"", "mamba, attention"}},
      {"tiny-granite", "position_embedding_type", std::string("alibi"), {"position_embedding_type", "alibi"}},
      {"tiny-qwen3-next", "decoder_sparse_step", 2_i, {"decoder_sparse_step"}},
      {"tiny-qwen3-5", "text_config.layer_types", Texts{"a", "b", "c"}, {"text_config.layer_types", "\"a\""}},
      {"tiny-zamba2", "hidden_act", std::string("relu"), {"hidden_act is relu"}},
      {"tiny-phi4flash", "mb_per_layer", 3_i, {"mb_per_layer is 3"}},
      {"tiny-samba", "bias", true, {"bias"}},
      {"tiny-hax-mamba", "sparse_arch", std::string("sliding_window+sink"), {"sparse_arch is sliding_window+sink"}},
      {"tiny-hax-mamba2", "sparse_arch", std::string("none"), {"sparse_arch is none", "sign_bin_lsh"}},
  };
  return cases;
}

TEST(MalformedConfiguration, IsRefusedByName) {
  EXPECT_GE(config_cases().size(), 60U);
  for (const Case& c : config_cases()) {
    SCOPED_TRACE(fmt::format("{}, {}", c.model, c.key));
    const auto plan = models::plan_checkpoint(changed(c), DType::kF32);
    ASSERT_FALSE(plan.has_value());
    for (const std::string_view part : c.parts) {
      EXPECT_NE(plan.error().message.find(part), std::string::npos)
          << "no \"" << part << "\" in " << plan.error().message;
    }
  }
}

// A good checkpoint with a tensor gone, or of another shape.
class ChangedTensors final : public formats::WeightSource {
 public:
  explicit ChangedTensors(const SyntheticShape& shape)
      : good_(models::make_synthetic(shape, DType::kF32, 1)),
        tensors_(good_->tensors().begin(), good_->tensors().end()) {}
  void drop(const std::string& name) {
    std::erase_if(tensors_, [&](const formats::TensorInfo& tensor) { return tensor.name == name; });
  }
  void reshape(const std::string& name, Shape shape) {
    const auto found = std::ranges::find(tensors_, name, &formats::TensorInfo::name);
    ASSERT_NE(found, tensors_.end()) << name;
    found->shape = std::move(shape);
  }
  std::string_view format() const override { return "safetensors"; }
  const Config& config() const override { return good_->config(); }
  std::span<const formats::TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return "changed.safetensors"; }
  Result<TensorView> view(std::string_view name) const override {
    const formats::TensorInfo* info = find(name);
    if (info == nullptr) return fail(ErrorCode::kNotFound, "[changed] no tensor {} in {}", name, origin());
    auto view = good_->view(name);
    if (view) view->shape = info->shape;
    return view;
  }

 private:
  std::unique_ptr<formats::WeightSource> good_;
  std::vector<formats::TensorInfo> tensors_;
};

// Every tensor of every architecture in turn: without it, and with one row more than there should be.
TEST(MalformedCheckpoint, ATensorThatIsMissingOrMisshapenIsNamed) {
  int cases = 0;
  for (const SyntheticShape& shape : kTinyModels) {
    if (shape.config.empty()) continue;
    const auto good = models::make_synthetic(shape, DType::kF32, 1);
    for (const formats::TensorInfo& tensor : good->tensors()) {
      // Half a model's norms and biases stand for all of them.
      if (tensor.name.find("layers.2") != std::string::npos) continue;
      SCOPED_TRACE(fmt::format("{}, {}", shape.name, tensor.name));
      for (const bool missing : {true, false}) {
        auto source = std::make_shared<ChangedTensors>(shape);
        Shape wrong = tensor.shape;
        wrong.front() += 1;
        if (missing) {
          source->drop(tensor.name);
        } else {
          source->reshape(tensor.name, wrong);
        }
        models::LoadOptions load;
        load.shapes_only = true;
        const auto model = models::load_model(source, load);
        // Biases may be left out; the embedding's rows are the vocabulary, whatever it is.
        if (model && (tensor.name.ends_with("bias") || tensor.name.find("embed") != std::string::npos ||
                      tensor.name.find("wte") != std::string::npos || tensor.name == "lm_head.weight")) {
          continue;
        }
        ASSERT_FALSE(model.has_value()) << (missing ? "missing" : "misshapen");
        const std::string& message = model.error().message;
        // A projection that may stand in other tensors is missed by one of their names.
        const bool either = missing && tensor.name.find("linear_attn.in_proj") != std::string::npos;
        EXPECT_TRUE(either || message.find(tensor.name) != std::string::npos) << message;
        EXPECT_NE(message.find("changed.safetensors"), std::string::npos) << message;
        if (!missing) {
          EXPECT_NE(message.find(to_string(wrong)), std::string::npos) << message;
          EXPECT_NE(message.find("expected"), std::string::npos) << message;
        }
        ++cases;
      }
    }
  }
  EXPECT_GE(cases, 300);
}

}  // namespace
}  // namespace krait::tests
