// The parts of a GGUF that several architectures share: mixers, MLPs, experts, both ends, and their keys. `from` and
// `to` are prefixes of names, in transformers' layout and in GGUF's.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "krait/models/gguf_builder.h"
#include "krait/models/hybrid_config.h"

namespace krait::models::gguf {

using Prefix = const std::string&;

void mamba1(GgufBuilder& g, Prefix from, Prefix to);
void mamba2(GgufBuilder& g, const Mamba2Dimensions& d, Prefix from, Prefix to);
void mamba2_keys(GgufBuilder& g, const Mamba2Dimensions& d);
// `neighbours`: rows of queries and keys go to llama.cpp's first layout, of so many components.
void attention(GgufBuilder& g, const AttentionDimensions& d, Prefix from, Prefix to, bool neighbours = false,
               const AttentionNames& names = {});
// Heads of each layer, 0 where it does not attend.
void attention_keys(GgufBuilder& g, const AttentionDimensions& d, const std::vector<bool>& attends);
void mlp(GgufBuilder& g, Prefix from, Prefix to, const std::array<float, 2>& factors = {1.0F, 1.0F},
         const std::array<const char*, 3>& names = {"gate_proj", "up_proj", "down_proj"});
// Experts that stand one by one; stacked, where some writers have them so already.
void experts(GgufBuilder& g, std::int64_t count, Prefix from, Prefix to, bool gated);
// Rows of a fused gate and up, gate above.
void halves(GgufBuilder& g, Prefix from, Prefix gate, Prefix up, std::int64_t hidden);
// Both ends, and the keys of every file. `added`: to the last norm.
void ends(GgufBuilder& g, const ResidualConfig& c, Prefix embedding, Prefix norm, Prefix gguf_norm, float added = 0.0F);

}  // namespace krait::models::gguf
