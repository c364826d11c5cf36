// A mixture of experts (Shazeer et al. 2017): a router gives each row K of the E experts, whose weighted sum is the
// result, beside a shared expert that all rows pass where the model has one.
//   out = scaling * sum_e weight_e expert_e(u) + sigmoid(w_s u) shared(u)
// Rows are grouped by expert, so that each expert's matrices are read once a step and many rows make it a matrix
// product; experts that no row asks for are not touched.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "krait/kernels/matmul.h"
#include "krait/models/mixers/feed_forward.h"
#include "krait/models/mixers/mixer.h"

namespace krait::models {

enum class RouterScores {
  kSoftmax,  // over all experts; with renormalisation that is a softmax over the chosen ones
  kSigmoid,  // of each expert by itself (DeepSeek-V3, Nemotron)
};

struct MixtureDimensions {
  std::int64_t width = 0;    // D
  std::int64_t experts = 0;  // E
  std::int64_t chosen = 0;   // K
  std::int64_t hidden = 0;   // of one expert
  FeedForwardForm form = FeedForwardForm::kGateUp;
  FeedForwardActivation activation = FeedForwardActivation::kSilu;
  RouterScores scores = RouterScores::kSoftmax;
  bool renormalise = false;        // the chosen weights sum to 1
  float scaling = 1.0F;            // of the routed part
  std::int64_t groups = 1;         // experts are chosen from the best `chosen_groups` of so many groups, a group
  std::int64_t chosen_groups = 1;  // being worth the sum of its two best
  std::int64_t latent = 0;         // width of a projection round the routed experts; 0: none
  std::int64_t shared_hidden = 0;  // of the shared expert; 0: none
  bool shared_gate = false;        // sigmoid(w_s u), else 1
};

// Names of the tensors inside the scope, with ".weight" where they have it.
struct MixtureNames {
  std::string router = "gate.weight";
  std::string router_bias = "gate.e_score_correction_bias";  // added for the choice alone; used where it is there
  // Stacked: [E, 2 hidden, D] with the gate above, or [E, hidden, D] ungated; [E, D, hidden].
  std::string stacked_in = "experts.gate_up_proj", stacked_down = "experts.down_proj";
  bool always_stacked = false;  // else the tensors tell
  std::string shared = "shared_expert.", shared_gate = "shared_expert_gate.weight";
  // The form in which the shared expert stands, and its tensors.
  FeedForwardForm shared_form = FeedForwardForm::kGateUp;
  FeedForwardNames shared_names = {
      .gguf_gate = "ffn_gate_shexp", .gguf_up = "ffn_up_shexp", .gguf_down = "ffn_down_shexp"};
};

class MixtureOfExperts final : public Mixer {
 public:
  MixtureOfExperts(const WeightScope& scope, const MixtureDimensions& dimensions, const MixtureNames& names = {});

  void forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const override;

 private:
  struct Choice {
    std::int32_t expert;
    float weight;
  };
  void load_experts(const WeightScope& scope, const MixtureNames& names);
  // The K experts of one row, from its E logits (which are overwritten with scores).
  void choose(float* logits, Choice* chosen) const;
  void run_experts(Step& step, kernels::RowsIn u, kernels::RowsOut out) const;

  MixtureDimensions dimensions_;
  kernels::WeightMatrix router_;        // [E, D]
  const float* router_bias_ = nullptr;  // [E]
  std::vector<FeedForward> experts_;
  kernels::WeightMatrix latent_in_, latent_out_;
  std::optional<FeedForward> shared_;
  kernels::WeightMatrix shared_gate_;  // [1, D]
};

}  // namespace krait::models
