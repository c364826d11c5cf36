// Both ends of a language model: token ids to vectors, and the residual to what the head reads.
#pragma once

#include <optional>
#include <string>

#include "krait/kernels/matmul.h"
#include "krait/kernels/rows.h"
#include "krait/models/step.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

class TokenHead {
 public:
  struct Names {
    std::string embedding;
    std::string norm;
    std::string head;
  };
  // The names that state-spaces' checkpoints and their kin use ("backbone.embedding(s).weight", …) or GGUF's.
  static Names backbone_names(const WeightLoader& loader);
  // These names and "lm_head.weight", or GGUF's.
  static Names names(const WeightLoader& loader, std::string embedding, std::string norm);

  struct Options {
    std::int64_t width = 0;  // D
    float epsilon = 1e-5F;   // of the norm
    // What the configuration says, where it says anything; a checkpoint without a head is tied.
    std::optional<bool> tied;
    float embedding_scale = 1.0F;
    float logit_scale = 1.0F;
    bool norm_from_one = false;  // the norm stores w - 1
  };
  TokenHead(WeightLoader& loader, const Names& names, const Options& options);

  std::int64_t vocabulary() const { return embedding_.rows; }

  // residual [M, D] = embedding rows of the step's tokens.
  void embed(Step& step, kernels::RowsOut residual) const;
  // hidden [R, D] = norm(residual + delta) at the rows that are wanted.
  void hidden(Step& step, kernels::RowsIn residual, kernels::RowsIn delta, kernels::RowsOut hidden) const;
  // [V, D], the embedding itself when tied.
  const kernels::WeightMatrix& head() const { return head_; }

 private:
  kernels::WeightMatrix embedding_;  // [V, D]
  kernels::WeightMatrix head_;       // [V, D]
  const float* norm_ = nullptr;      // [D]
  float epsilon_ = 1e-5F;
  float embedding_scale_ = 1.0F;
};

}  // namespace krait::models
