// A checkpoint in transformers' layout seen as GGUF has it, and the other way round: names, shapes and keys, with the
// foldings that llama.cpp's converter makes, or without them again. What comes out is a weight source whose tensors are
// made when they are viewed; formats::write_gguf() and write_safetensors() make files of it. Not a tokenizer.
//
//   everywhere       A_log as -exp(A_log), conv1d [C, 1, K] as [C, K], norms, biases, A and D as f32, tied heads left
//   out Mamba-2          A and D as [H, 1], the gated norm as [G, E/G] experts          one stack a matrix; a fused
//   gate and up stands apart for Granite Falcon-H1        every multiplier inside the weights: they cannot be taken out
//   again Granite, Bamba   rows of queries and keys with the pairs that turn beside each other; Bamba becomes a
//                    "granitehybrid", and one without Granite's multipliers a Bamba
//   Qwen3-Next       1 added to norms (not the gated one), in_proj_qkvz taken apart
//   RWKV-7           the six mixes of a layer as one tensor
// The tables of names are in gguf_tables.h; both directions read the same ones.
#pragma once

#include <memory>
#include <optional>

#include "krait/core/error.h"
#include "krait/formats/weight_source.h"

namespace krait::models {

// The source is kept: tensors are made from it. Architectures: mamba, falcon_mamba, mamba2, rwkv7, jamba, nemotron_h,
// bamba, granitemoehybrid, falcon_h1, lfm2, qwen3_next. kUnsupported for others, for another naming than transformers',
// and for what GGUF's graphs leave out (an expansion of Mamba other than 2, time step limits, a norm before the gate,
// none at all). kNotFound and kCorrupt from a checkpoint that lacks its own parts.
Result<std::shared_ptr<const formats::WeightSource>> as_gguf(std::shared_ptr<const formats::WeightSource> source);

// The same way back: names and configuration as transformers has them. Matrices become `matrices` (f32, bf16 or f16),
// else keep their dtype, or become bf16 where they are blocks; other tensors become f32. A scale that stands beside a
// matrix goes into it. kUnsupported for tensors that the model has no place for there (rope_freqs.weight, biases), and
// for layers that transformers' configuration cannot name.
Result<std::shared_ptr<const formats::WeightSource>> as_transformers(
    std::shared_ptr<const formats::WeightSource> source, std::optional<DType> matrices = {});

}  // namespace krait::models
