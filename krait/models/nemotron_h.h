// What a Nemotron-H checkpoint says of itself.
#pragma once

#include <string>
#include "krait/models/hybrid_config.h"
#include "krait/models/mixers/mixture_of_experts.h"

namespace krait::models {

struct NemotronConfig {
  ResidualConfig residual;
  Mamba2Dimensions mamba;
  AttentionDimensions attention;
  MixtureDimensions mixture;
  std::int64_t hidden = 0;  // of an MLP; 0: what the tensor says
  std::string pattern;      // of transformers' files, a letter a layer
};

NemotronConfig read_nemotron_h(WeightLoader& loader);

}  // namespace krait::models
