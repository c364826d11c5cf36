// What a Granite 4 hybrid checkpoint says of itself.
#pragma once

#include <string>
#include <vector>
#include "krait/models/hybrid_config.h"
#include "krait/models/mixers/mixture_of_experts.h"

namespace krait::models {

struct GraniteConfig {
  ResidualConfig residual;
  Mamba2Dimensions mamba;
  AttentionDimensions attention;
  MixtureDimensions mixture;  // its shared expert is the MLP; no experts: that alone
  std::vector<std::string> kinds;
};

GraniteConfig read_granite(WeightLoader& loader);

}  // namespace krait::models
