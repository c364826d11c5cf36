// What a Falcon-H1 checkpoint says of itself.
#pragma once

#include <array>
#include "krait/models/hybrid_config.h"

namespace krait::models {

struct FalconH1Config {
  ResidualConfig residual;
  Mamba2Dimensions mamba;
  AttentionDimensions attention;
  std::int64_t hidden = 0;
  std::array<float, 2> mlp = {1.0F, 1.0F};  // of the gate before its activation, of the result
};

FalconH1Config read_falcon_h1(WeightLoader& loader);

}  // namespace krait::models
