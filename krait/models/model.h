// A language model as the runtime sees it: a layout of state, and a step that maps (states, tokens) to (states,
// logits). Everything else about it (equations, tensor names) is its own business.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "krait/core/dtype.h"
#include "krait/kernels/matmul.h"
#include "krait/kernels/panels.h"
#include "krait/kernels/rows.h"
#include "krait/models/state_layout.h"
#include "krait/models/step.h"

namespace krait::models {

struct ModelInfo {
  std::string architecture;  // the registry's name
  std::string format;        // of the checkpoint: "safetensors", "gguf", "torch"
  std::int64_t layers = 0;
  std::int64_t width = 0;                                     // D
  std::int64_t vocabulary = 0;                                // V, rows of the embedding (padding included)
  std::int64_t parameters = 0;                                // a tied head counts once
  kernels::PanelFormat weights = kernels::PanelFormat::kF32;  // of the weight matrices in memory
  std::uint64_t weight_bytes = 0;
  // For shares of the machine's limits: bytes of weights one decoded token has to read, and floating-point
  // operations of the weight matrices for one token (the head apart, which prefill needs only where logits are).
  std::uint64_t decode_weight_bytes = 0;
  std::uint64_t matmul_flops_per_token = 0;
  std::uint64_t head_flops = 0;
  std::vector<std::string> matrices;  // names of the tensors that `weights` speaks of
  std::string batch_dependence;       // of the weights: see Model::batch_dependence()
  std::optional<std::int32_t> bos;    // as the checkpoint's configuration names them
  std::vector<std::int32_t> eos;
};

class Model {
 public:
  struct Head {
    kernels::WeightMatrix weight;  // [V, D]
    const float* bias = nullptr;   // [V] or null
  };
  virtual ~Model() = default;

  const ModelInfo& info() const { return info_; }
  const StateLayout& state_layout() const { return state_layout_; }
  // Why the bits of a sequence may depend on what shares its steps and on where its prompt is cut, in a few words
  // ("weights used in place"). Empty: they do not, where cuts are multiples of 64 tokens (docs/decisions/0012).
  std::string batch_dependence() const;

  // Runs a step. hidden [R, D] takes what the head reads, behind the last norm: a row for each of step.wanted_rows().
  // Thread: one step at a time on a pool; two steps may run at once on different pools and workspaces, since the model
  // itself is not changed.
  virtual void forward(Step& step, kernels::RowsOut hidden) const = 0;

  const Head& head() const { return head_; }
  // logits [R, V] = head(hidden [R, D]). A row's do not depend on the others, but for weights in place.
  void logits(Step& step, kernels::RowsIn hidden, kernels::RowsOut logits) const;

 protected:
  Head head_;
  ModelInfo info_;
  StateLayout state_layout_;
};

}  // namespace krait::models
