// A checkpoint in transformers' layout seen as GGUF has it: llama.cpp's names, shapes and keys, with the foldings its
// converter makes. What comes out is a weight source of format "gguf"; formats::write_gguf() makes a file of it that
// both engines load. Not a tokenizer: a file for llama.cpp needs "tokenizer.ggml.*" as well.
//
//   everywhere       A_log as -exp(A_log), conv1d [C, 1, K] as [C, K], norms, biases, A and D as f32, tied heads left
//   out Mamba-2          A and D as [H, 1], the gated norm as [G, E/G] experts          one stack a matrix; a fused
//   gate and up stands apart for Granite Falcon-H1        every multiplier inside the weights Granite, Bamba   rows of
//   queries and keys with the pairs that turn beside each other; Bamba becomes a "granitehybrid" Qwen3-Next       1
//   added to norms (not the gated one), in_proj_qkvz taken apart
#pragma once

#include <memory>

#include "krait/core/error.h"
#include "krait/formats/weight_source.h"

namespace krait::models {

// The source is kept: matrices are views into it. Architectures: mamba, mamba2, jamba, nemotron_h, bamba,
// granitemoehybrid, falcon_h1, lfm2, qwen3_next. kUnsupported for others, for another naming than transformers', and
// for what GGUF's graphs leave out (an expansion of Mamba other than 2, time step limits, a norm before the gate, none
// at all). kNotFound and kCorrupt from a checkpoint that lacks its own parts.
Result<std::shared_ptr<const formats::WeightSource>> as_gguf(std::shared_ptr<const formats::WeightSource> source);

}  // namespace krait::models
