// Both ends of a language model: token ids to vectors, and vectors to logits.
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

  // `tied` is what the configuration says, where it says anything; a checkpoint without a head is tied.
  TokenHead(WeightLoader& loader, const Names& names, std::int64_t width, float epsilon, std::optional<bool> tied);

  std::int64_t vocabulary() const { return embedding_.rows; }

  // residual [M, D] = embedding rows of the step's tokens.
  void embed(Step& step, kernels::RowsOut residual) const;
  // logits [R, V] = head · norm(residual + delta) at the rows whose logits are wanted.
  void logits(Step& step, kernels::RowsIn residual, kernels::RowsIn delta, kernels::RowsOut logits) const;

 private:
  kernels::WeightMatrix embedding_;  // [V, D]
  kernels::WeightMatrix head_;       // [V, D], the embedding itself when tied
  const float* norm_ = nullptr;      // [D]
  float epsilon_ = 1e-5F;
};

}  // namespace krait::models
