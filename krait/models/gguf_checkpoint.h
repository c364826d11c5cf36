// A Mamba or Mamba-2 checkpoint seen as GGUF has it: llama.cpp's names, shapes and keys in place of transformers'. What
// comes out is a weight source of format "gguf"; formats::write_gguf() makes a file of it that both engines load.
// Not a tokenizer: a file for llama.cpp needs "tokenizer.ggml.*" as well.
//
//   backbone.embeddings.weight   token_embd.weight          layers.N.norm.weight     blk.N.attn_norm.weight
//   backbone.norm_f.weight       output_norm.weight         mixer.in_proj            blk.N.ssm_in
//   lm_head.weight               output.weight, left out    mixer.conv1d             blk.N.ssm_conv1d, [C, K]
//                                where it is tied           mixer.x_proj, dt_proj    blk.N.ssm_x, ssm_dt
//   mixer.D                      blk.N.ssm_d                mixer.dt_bias            blk.N.ssm_dt.bias
//   mixer.norm.weight            blk.N.ssm_norm.weight      mixer.out_proj           blk.N.ssm_out
//   mixer.A_log                  blk.N.ssm_a = -exp(A_log)
//
// Matrices keep their dtype; norms, convolutions, biases, A and D are f32, as llama.cpp's operators demand.
#pragma once

#include <memory>

#include "krait/core/error.h"
#include "krait/formats/weight_source.h"

namespace krait::models {

// The source is kept: matrices are views into it. kUnsupported for architectures other than these two, for a naming
// other than transformers', and for what GGUF's graphs leave out (an expansion of Mamba other than 2, time step limits,
// a norm before the gate, none at all). kNotFound and kCorrupt from a checkpoint that lacks its own parts.
Result<std::shared_ptr<const formats::WeightSource>> as_gguf(std::shared_ptr<const formats::WeightSource> source);

}  // namespace krait::models
