// What the configurations of hybrids have in common: sizes of attention and Mamba-2 mixers under the keys that
// transformers' models share, and GGUF's keys, which are the same for all.
#pragma once

#include <string>
#include <vector>

#include "krait/models/mixers/attention.h"
#include "krait/models/mixers/mamba2.h"
#include "krait/models/residual_model.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

// GGUF: "{architecture}.{key}".
std::string gguf_key(const WeightLoader& loader, std::string_view key);

// Layers, width and epsilon. transformers: num_hidden_layers, hidden_size, tie_word_embeddings and `epsilon_key`, all
// under `prefix` ("text_config." where a model has more than text).
ResidualConfig read_residual(WeightLoader& loader, std::string architecture, std::string_view epsilon_key,
                             double epsilon, std::string_view prefix = "");

// num_attention_heads, num_key_value_heads, head_dim; GGUF: attention.head_count(_kv), attention.key_length,
// attention.scale. Rotation is the model's business.
AttentionDimensions read_attention(WeightLoader& loader, std::int64_t width, std::string_view prefix = "");

// Rotary positions of `share` of the head's components. transformers: rope_parameters.* or rope_theta and
// partial_rotary_factor (which replaces `share`); scaled positions are refused by name. GGUF: rope.*.
kernels::Rotary read_rotary(WeightLoader& loader, std::int64_t head_width, double share, double theta,
                            std::string_view prefix = "");

// Of a pure Mamba-2 in transformers' layout: num_heads, head_dim, ….
Mamba2Dimensions read_mamba2_transformers(WeightLoader& loader);

// Of hybrids: mamba_n_heads, mamba_d_head, …; GGUF: ssm.*.
Mamba2Dimensions read_mamba2(WeightLoader& loader, std::int64_t width, float epsilon);

// Layers that a list of indices names (`key`: attn_layer_indices); an index outside is an error.
std::vector<bool> read_layer_set(WeightLoader& loader, std::string_view key, std::int64_t layers);
// A word for every layer (`key`: layer_types), each one of `allowed`.
std::vector<std::string> read_layer_kinds(WeightLoader& loader, std::string_view key, std::int64_t layers,
                                          std::span<const std::string_view> allowed);

}  // namespace krait::models
