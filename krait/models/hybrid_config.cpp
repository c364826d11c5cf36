#include "krait/models/hybrid_config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace krait::models {
namespace {

void refuse(WeightLoader& loader, ErrorCode code, std::string message) {
  loader.set_error({code, fmt::format("[models] {} ({})", message, loader.config().origin())});
}

// A number, or the largest of a list with one for every layer.
std::int64_t size_of_layers(WeightLoader& loader, const std::string& key) {
  if (!loader.config().integers(key)) return loader.size(key);
  const auto sizes = *loader.config().integers(key);
  const std::int64_t largest = sizes.empty() ? 0 : *std::ranges::max_element(sizes);
  if (largest >= 1 && largest <= (std::int64_t{1} << 24)) return largest;
  refuse(loader, ErrorCode::kCorrupt, fmt::format("{} holds {}, not a size", key, largest));
  return 1;
}

}  // namespace

std::string gguf_key(const WeightLoader& loader, std::string_view key) {
  return fmt::format("{}.{}", loader.config().text("general.architecture").value_or(""), key);
}

ResidualConfig read_residual(WeightLoader& loader, std::string architecture, std::string_view epsilon_key,
                             double epsilon, std::string_view prefix) {
  ResidualConfig config;
  config.architecture = std::move(architecture);
  if (loader.is_gguf()) {
    config.layers = loader.size(gguf_key(loader, "block_count"));
    config.width = loader.size(gguf_key(loader, "embedding_length"));
    config.epsilon =
        static_cast<float>(loader.number_or(gguf_key(loader, "attention.layer_norm_rms_epsilon"), epsilon));
    return config;
  }
  config.layers = loader.size(fmt::format("{}num_hidden_layers", prefix));
  config.width = loader.size(fmt::format("{}hidden_size", prefix));
  config.epsilon = static_cast<float>(loader.number_or(fmt::format("{}{}", prefix, epsilon_key), epsilon));
  config.tied = loader.boolean_if_present(fmt::format("{}tie_word_embeddings", prefix));
  return config;
}

AttentionDimensions read_attention(WeightLoader& loader, std::int64_t width, std::string_view prefix) {
  AttentionDimensions attention;
  attention.width = width;
  if (loader.is_gguf()) {
    attention.heads = size_of_layers(loader, gguf_key(loader, "attention.head_count"));
    attention.key_heads = size_of_layers(loader, gguf_key(loader, "attention.head_count_kv"));
    attention.head_width = loader.size_or(gguf_key(loader, "attention.key_length"), width / attention.heads);
    const std::int64_t values = loader.size_or(gguf_key(loader, "attention.value_length"), attention.head_width);
    if (values != attention.head_width) {
      refuse(loader, ErrorCode::kUnsupported,
             fmt::format("keys of {} beside values of {}", attention.head_width, values));
    }
    attention.scale = static_cast<float>(loader.number_or(gguf_key(loader, "attention.scale"), 0.0));
    return attention;
  }
  const auto key = [&](std::string_view name) { return fmt::format("{}{}", prefix, name); };
  attention.heads = loader.size(key("num_attention_heads"));
  attention.key_heads = loader.size_or(key("num_key_value_heads"), attention.heads);
  if (loader.config().has(key("head_dim"))) {
    attention.head_width = loader.size(key("head_dim"));
  } else {
    if (width % attention.heads != 0) {
      refuse(loader, ErrorCode::kCorrupt,
             fmt::format("a width of {} does not divide into {} heads", width, attention.heads));
    }
    attention.head_width = width / attention.heads;
  }
  return attention;
}

kernels::Rotary read_rotary(WeightLoader& loader, std::int64_t head_width, double share, double theta,
                            std::string_view prefix) {
  kernels::Rotary rotary;
  if (loader.is_gguf()) {
    rotary.theta = loader.number_or(gguf_key(loader, "rope.freq_base"), theta);
    rotary.width = loader.size_or(gguf_key(loader, "rope.dimension_count"), head_width);
  } else {
    const auto key = [&](std::string_view name) {
      const std::string grouped = fmt::format("{}rope_parameters.{}", prefix, name);
      return loader.config().has(grouped) ? grouped : fmt::format("{}{}", prefix, name);
    };
    for (const std::string_view kind : {"rope_parameters.rope_type", "rope_scaling.rope_type", "rope_scaling.type"}) {
      const std::string type = loader.text_or(fmt::format("{}{}", prefix, kind), "default");
      if (type != "default") {
        refuse(loader, ErrorCode::kUnsupported, fmt::format("{}{} is {}: only default is known", prefix, kind, type));
      }
    }
    rotary.theta = loader.number_or(key("rope_theta"), theta);
    share = loader.number_or(key("partial_rotary_factor"), share);
    if (!(share > 0.0 && share <= 1.0)) {
      refuse(loader, ErrorCode::kCorrupt, fmt::format("partial_rotary_factor is {}, not in (0, 1]", share));
      share = 1.0;
    }
    rotary.width = static_cast<std::int64_t>(static_cast<double>(head_width) * share);
  }
  if (!(rotary.theta > 0.0) || !std::isfinite(rotary.theta)) {
    refuse(loader, ErrorCode::kCorrupt, fmt::format("rope_theta is {}", rotary.theta));
  }
  return rotary;
}

Mamba2Dimensions read_mamba2(WeightLoader& loader, std::int64_t width, float epsilon) {
  Mamba2Dimensions mixer;
  mixer.width = width;
  mixer.epsilon = epsilon;
  if (loader.is_gguf()) {
    mixer.heads = loader.size(gguf_key(loader, "ssm.time_step_rank"));  // GGUF's name for the number of heads
    const std::int64_t inner = loader.size(gguf_key(loader, "ssm.inner_size"));
    if (inner % mixer.heads != 0) {
      refuse(loader, ErrorCode::kCorrupt,
             fmt::format("ssm.inner_size {} does not divide into {} heads", inner, mixer.heads));
    }
    mixer.head_width = std::max<std::int64_t>(1, inner / mixer.heads);
    mixer.states = loader.size(gguf_key(loader, "ssm.state_size"));
    mixer.groups = loader.size_or(gguf_key(loader, "ssm.group_count"), 1);
    mixer.conv_width = loader.size(gguf_key(loader, "ssm.conv_kernel"));
    return mixer;
  }
  mixer.heads = loader.size("mamba_n_heads");
  const std::int64_t inner = loader.size_or("mamba_d_ssm", loader.size_or("mamba_expand", 2) * width);
  // "auto" in some configurations.
  const bool given = loader.config().integer("mamba_d_head").has_value();
  mixer.head_width = given ? loader.size("mamba_d_head") : std::max<std::int64_t>(1, inner / mixer.heads);
  if (mixer.heads * mixer.head_width != inner) {
    refuse(loader, ErrorCode::kCorrupt,
           fmt::format("mamba_n_heads {} times mamba_d_head {} is not the inner width {}", mixer.heads,
                       mixer.head_width, inner));
  }
  mixer.states = loader.size_or("mamba_d_state", 256);
  mixer.groups = loader.size_or("mamba_n_groups", 1);
  mixer.conv_width = loader.size_or("mamba_d_conv", 4);
  if (loader.config().has("time_step_limit")) read_dt_limits(loader, "time_step_limit", mixer);
  return mixer;
}

std::vector<bool> read_layer_set(WeightLoader& loader, std::string_view key, std::int64_t layers) {
  std::vector<bool> set(static_cast<std::size_t>(layers), false);
  if (!loader.config().has(key)) return set;
  const auto indices = loader.config().integers(key);
  if (!indices) {
    loader.set_error(indices.error());
    return set;
  }
  for (const std::int64_t index : *indices) {
    if (index < 0 || index >= layers) {
      refuse(loader, ErrorCode::kCorrupt, fmt::format("{} names layer {} of {}", key, index, layers));
      return set;
    }
    set[static_cast<std::size_t>(index)] = true;
  }
  return set;
}

std::vector<std::string> read_layer_kinds(WeightLoader& loader, std::string_view key, std::int64_t layers,
                                          std::span<const std::string_view> allowed) {
  const auto kinds = loader.config().texts(key);
  if (!kinds) {
    loader.set_error(kinds.error());
    return std::vector<std::string>(static_cast<std::size_t>(layers));
  }
  if (static_cast<std::int64_t>(kinds->size()) != layers) {
    refuse(loader, ErrorCode::kCorrupt, fmt::format("{} has {} entries for {} layers", key, kinds->size(), layers));
  }
  for (const std::string& kind : *kinds) {
    if (std::ranges::find(allowed, kind) == allowed.end()) {
      refuse(loader, ErrorCode::kUnsupported,
             fmt::format("{} has a layer \"{}\", which is none of {}", key, kind, fmt::join(allowed, ", ")));
    }
  }
  std::vector<std::string> result = *kinds;
  result.resize(static_cast<std::size_t>(layers));
  return result;
}

}  // namespace krait::models
