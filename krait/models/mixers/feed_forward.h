// The MLPs of the field: W_down (act(W_gate u) * W_up u), or W_down act(W_up u) without a gate; biases where the
// checkpoint has them.
#pragma once

#include <string>
#include <vector>

#include "krait/kernels/matmul.h"
#include "krait/models/mixers/mixer.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

enum class FeedForwardActivation {
  kSilu,
  kGelu,         // x Phi(x), exactly
  kSquaredRelu,  // max(x, 0)^2
};

// How the input matrices stand in the checkpoint.
enum class FeedForwardForm {
  kGateUp,           // two matrices
  kFusedGateFirst,   // one, [2 hidden, D], gate above up
  kFusedValueFirst,  // one, up above gate (state-spaces)
  kUngated,
};

// Names of the tensors, without ".weight" and ".bias", and of their GGUF twins. Fused forms use `up`.
struct FeedForwardNames {
  std::string gate = "gate_proj", up = "up_proj", down = "down_proj";
  std::string gguf_gate = "ffn_gate", gguf_up = "ffn_up", gguf_down = "ffn_down";
  bool gguf_scales = true;
};

class FeedForward final : public Mixer {
 public:
  // Without a hidden width it is that of the down matrix [D, hidden].
  FeedForward(const WeightScope& scope, std::int64_t width, std::optional<std::int64_t> hidden, FeedForwardForm form,
              FeedForwardActivation activation, const FeedForwardNames& names = {});
  // One expert of a mixture, from matrices that are loaded already; `gate` may be empty (fused or ungated).
  FeedForward(FeedForwardForm form, FeedForwardActivation activation, kernels::WeightMatrix gate,
              kernels::WeightMatrix up, kernels::WeightMatrix down);

  void forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const override;
  // The parts of forward(), for experts that are multiplied together. Scratch [rows, scratch_columns()] takes what the
  // input matrices give; its first hidden() columns then hold the input of the down matrix.
  std::int64_t hidden() const { return hidden_; }
  std::int64_t scratch_columns() const { return form_ == FeedForwardForm::kUngated ? hidden_ : 2 * hidden_; }
  // Appends the products with rows [first_row, first_row + scratch.rows) of the input.
  void append_inputs(std::vector<kernels::GroupedProduct>& products, std::int64_t first_row,
                     kernels::RowsOut scratch) const;
  void activate(ThreadPool& pool, kernels::RowsOut scratch) const;

  const kernels::WeightMatrix& gate() const { return gate_; }
  const kernels::WeightMatrix& up() const { return up_; }
  const kernels::WeightMatrix& down() const { return down_; }

  // Factors of the gate before its activation, and of the result (Falcon-H1's multipliers).
  void scale(float gate, float down);

 private:
  FeedForwardForm form_;
  FeedForwardActivation activation_;
  std::int64_t hidden_ = 0;
  kernels::WeightMatrix gate_;  // [hidden, D]
  kernels::WeightMatrix up_;    // [hidden, D], or [2 hidden, D] when fused
  kernels::WeightMatrix down_;  // [D, hidden]
  const float* gate_bias_ = nullptr;
  const float* up_bias_ = nullptr;
  const float* down_bias_ = nullptr;
};

}  // namespace krait::models
