// What a Jamba checkpoint says of itself.
#pragma once

#include "krait/models/hybrid_config.h"
#include "krait/models/mixers/mamba1.h"
#include "krait/models/mixers/mixture_of_experts.h"

namespace krait::models {

struct JambaConfig {
  ResidualConfig residual;
  Mamba1Dimensions mamba;
  AttentionDimensions attention;
  MixtureDimensions mixture;
  std::int64_t hidden = 0;  // of an MLP and of an expert
  std::int64_t attention_period = 8, attention_offset = 4, expert_period = 2, expert_offset = 1;
};

JambaConfig read_jamba(WeightLoader& loader);

}  // namespace krait::models
