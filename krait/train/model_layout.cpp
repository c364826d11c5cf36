#include "krait/train/model_layout.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

namespace krait::train {
namespace {

using Json = nlohmann::ordered_json;

void name_end(Json& config, std::int64_t end_token) {
  if (end_token < 0) return;
  for (const char* name : {"bos_token_id", "eos_token_id", "pad_token_id"}) config[name] = end_token;
}

Json shared_config(const TrainedModelOptions& of, std::int64_t rows, std::int64_t end_token) {
  Json config{{"vocab_size", rows},       {"hidden_size", of.width},       {"num_hidden_layers", of.layers},
              {"expand", of.expand},      {"conv_kernel", of.conv_width},  {"use_bias", false},
              {"use_conv_bias", true},    {"hidden_act", "silu"},          {"layer_norm_epsilon", 1e-5},
              {"residual_in_fp32", true}, {"tie_word_embeddings", of.tied}};
  name_end(config, end_token);
  return config;
}

Json mamba_config(const TrainedModelOptions& of, std::int64_t rows, std::int64_t end_token) {
  Json config{{"architectures", {"MambaForCausalLM"}}, {"model_type", "mamba"}};
  config.update(shared_config(of, rows, end_token));
  config["state_size"] = of.mamba_states();
  config["intermediate_size"] = of.expand * of.width;
  config["time_step_rank"] = (of.width + 15) / 16;
  return config;
}

// Beside Mamba's: the two ways of choosing share the keys equally (models/mixers/hax.h).
Json hax_config(const TrainedModelOptions& of, std::int64_t rows, std::int64_t end_token) {
  Json config = mamba_config(of, rows, end_token);
  config["sparse_arch"] = of.selected_keys == 0 ? "sign_bin_lsh"
                          : of.recent_keys == 0 ? "key_selection"
                                                : "sign_bin_lsh+key_selection";
  config["sparse_keys"] = of.recent_keys + of.selected_keys;
  config["num_hash"] = of.hashes;
  return config;
}

Json mamba2_config(const TrainedModelOptions& of, std::int64_t rows, std::int64_t end_token) {
  Json config{{"architectures", {"Mamba2ForCausalLM"}}, {"model_type", "mamba2"}};
  config.update(shared_config(of, rows, end_token));
  config["state_size"] = of.ssd_states();
  config["num_heads"] = of.inner_heads();
  config["head_dim"] = of.head_width;
  config["n_groups"] = of.groups;
  config["chunk_size"] = 64;
  config["rms_norm"] = true;
  config["norm_before_gate"] = false;
  return config;
}

// The authors' file does not say which token ends a text.
Json mamba3_config(const TrainedModelOptions& of, std::int64_t rows, std::int64_t end_token) {
  Json config{{"d_model", of.width},
              {"n_layer", of.layers},
              {"vocab_size", rows},
              {"ssm_cfg",
               {{"layer", "Mamba3"},
                {"d_state", of.ssd_states()},
                {"expand", of.expand},
                {"headdim", of.head_width},
                {"ngroups", of.groups}}},
              {"rms_norm", true},
              {"residual_in_fp32", true},
              {"pad_vocab_size_multiple", 1},
              {"tie_embeddings", of.tied}};
  name_end(config, end_token);
  return config;
}

// A layer is one mixer; attention knows no positions.
Json nemotron_config(const TrainedModelOptions& of, std::int64_t rows, std::int64_t end_token) {
  std::string pattern;
  for (std::int64_t i = 0; i < of.layers; ++i) pattern += of.mixer(i) == "attention" ? '*' : 'M';
  Json config{{"architectures", {"NemotronHForCausalLM"}}, {"model_type", "nemotron_h"}};
  config.update(shared_config(of, rows, end_token));
  config["hybrid_override_pattern"] = pattern;
  config["mamba_num_heads"] = of.inner_heads();
  config["mamba_head_dim"] = of.head_width;
  config["ssm_state_size"] = of.ssd_states();
  config["n_groups"] = of.groups;
  config["chunk_size"] = 64;
  config["mamba_hidden_act"] = "silu";
  config["num_attention_heads"] = of.attention_heads();
  config["num_key_value_heads"] = of.attention_heads();
  config["head_dim"] = of.head_width;
  config["attention_bias"] = false;
  config["intermediate_size"] = 4 * of.width;  // of layers that there are none of
  config["mlp_hidden_act"] = "relu2";
  return config;
}

// A feed-forward layer after each mixer; all multipliers are 1.
Json granite_config(const TrainedModelOptions& of, std::int64_t rows, std::int64_t end_token) {
  Json kinds = Json::array();
  for (std::int64_t i = 0; i < of.layers; ++i) kinds.push_back(of.mixer(i) == "attention" ? "attention" : "mamba");
  Json config{{"architectures", {"GraniteMoeHybridForCausalLM"}},
              {"model_type", "granitemoehybrid"},
              {"vocab_size", rows},
              {"hidden_size", of.width},
              {"intermediate_size", of.feed_forward},
              {"shared_intermediate_size", of.feed_forward},
              {"num_local_experts", 0},
              {"num_experts_per_tok", 0},
              {"num_hidden_layers", of.layers},
              {"layer_types", kinds},
              {"num_attention_heads", of.attention_heads()},
              {"num_key_value_heads", of.attention_heads()},
              {"attention_bias", false},
              {"attention_multiplier", 1.0 / std::sqrt(static_cast<double>(of.head_width))},
              {"embedding_multiplier", 1.0},
              {"residual_multiplier", 1.0},
              {"logits_scaling", 1.0},
              {"position_embedding_type", of.rotary > 0 ? "rope" : "nope"},
              {"rope_theta", 10000.0},
              {"hidden_act", "silu"},
              {"normalization_function", "rmsnorm"},
              {"rms_norm_eps", 1e-5},
              {"mamba_n_heads", of.inner_heads()},
              {"mamba_d_head", of.head_width},
              {"mamba_d_state", of.ssd_states()},
              {"mamba_n_groups", of.groups},
              {"mamba_d_conv", of.conv_width},
              {"mamba_expand", of.expand},
              {"mamba_chunk_size", 64},
              {"mamba_conv_bias", true},
              {"mamba_proj_bias", false},
              {"tie_word_embeddings", of.tied}};
  name_end(config, end_token);
  return config;
}

StoredParameter as_it_is(std::string_view parameter) { return {.name = std::string(parameter)}; }

// transformers' "embeddings" for "embedding".
StoredParameter with_embeddings(std::string_view parameter) {
  return parameter == "backbone.embedding.weight" ? StoredParameter{.name = "backbone.embeddings.weight"}
                                                  : as_it_is(parameter);
}

StoredParameter granite_parameter(const TrainedModelOptions& of, std::string_view parameter) {
  static constexpr std::string_view kLayers = "backbone.layers.";
  if (parameter == "backbone.embedding.weight") return {.name = "model.embed_tokens.weight"};
  if (parameter == "backbone.norm_f.weight") return {.name = "model.norm.weight"};
  if (!parameter.starts_with(kLayers)) return as_it_is(parameter);  // lm_head.weight
  const std::string_view behind = parameter.substr(kLayers.size());
  const std::size_t dot = behind.find('.');
  const std::int64_t layer = std::stoll(std::string(behind.substr(0, dot)));
  const std::string_view inside = behind.substr(dot + 1);
  const std::string scope = fmt::format("model.layers.{}.", layer);
  if (inside == "norm.weight") return {.name = scope + "input_layernorm.weight"};
  if (inside == "norm2.weight") return {.name = scope + "post_attention_layernorm.weight"};
  // Ours has what the gate multiplies first, Granite the gate.
  if (inside == "mlp.fc1.weight") return {.name = scope + "shared_mlp.input_linear.weight", .halves_exchanged = true};
  if (inside == "mlp.fc2.weight") return {.name = scope + "shared_mlp.output_linear.weight"};
  const std::string_view mixer = of.mixer(layer) == "attention" ? "self_attn" : "mamba";
  return {.name = scope + std::string(mixer) + std::string(inside.substr(std::string_view("mixer").size()))};
}

}  // namespace

Result<ModelLayout> layout_of(const TrainedModelOptions& options, std::int64_t rows, std::int64_t end_token) {
  const auto only = [&](std::initializer_list<std::string_view> names) {
    return std::ranges::all_of(
        options.mixers, [&](const std::string& mixer) { return std::ranges::find(names, mixer) != names.end(); });
  };
  const auto made = [](const Json& config, std::function<StoredParameter(std::string_view)> stored) {
    return ModelLayout{.config = config.dump(1) + "\n", .stored = std::move(stored)};
  };
  if (options.feed_forward == 0) {
    if (only({"mamba"})) return made(mamba_config(options, rows, end_token), with_embeddings);
    if (only({"mamba2"})) return made(mamba2_config(options, rows, end_token), with_embeddings);
    if (only({"mamba3"})) return made(mamba3_config(options, rows, end_token), as_it_is);
    const bool shares =
        options.recent_keys == 0 || options.selected_keys == 0 || options.recent_keys == options.selected_keys;
    if (only({"hax"}) && shares) return made(hax_config(options, rows, end_token), with_embeddings);
    if (only({"mamba2", "attention"}) && options.window == 0 && options.rotary == 0) {
      return made(nemotron_config(options, rows, end_token), with_embeddings);
    }
  } else if (only({"mamba2", "attention"}) && options.window == 0 && options.groups == 1 &&
             (options.rotary == 0 || options.rotary == options.head_width)) {
    return made(granite_config(options, rows, end_token),
                [options](std::string_view parameter) { return granite_parameter(options, parameter); });
  }
  return fail(ErrorCode::kUnsupported,
              "[train] no published layout has layers of {} with a window of {}, {} turned entries of a head of {}, {} "
              "groups and feed-forward layers of {}: the checkpoint keeps the weights",
              fmt::join(options.mixers, ", "), options.window, options.rotary, options.head_width, options.groups,
              options.feed_forward);
}

}  // namespace krait::train
