// What a Qwen3-Next or Qwen3.5 checkpoint says of itself.
#pragma once

#include <vector>
#include "krait/models/hybrid_config.h"
#include "krait/models/mixers/gated_delta.h"
#include "krait/models/mixers/mixture_of_experts.h"

namespace krait::models {

struct QwenConfig {
  ResidualConfig residual;
  GatedDeltaDimensions delta;
  AttentionDimensions attention;
  MixtureDimensions mixture;  // no experts: an MLP
  std::int64_t hidden = 0;    // of an MLP
  std::vector<bool> attends;  // of transformers' files
};

QwenConfig read_qwen3_next(WeightLoader& loader);

}  // namespace krait::models
