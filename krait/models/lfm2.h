// What an LFM2 checkpoint says of itself.
#pragma once

#include <vector>
#include "krait/models/hybrid_config.h"

namespace krait::models {

struct Lfm2Config {
  ResidualConfig residual;
  AttentionDimensions attention;
  std::int64_t conv_width = 0;  // K
  std::int64_t hidden = 0;      // of an MLP
  std::vector<bool> attends;    // of transformers' files
};

Lfm2Config read_lfm2(WeightLoader& loader);

}  // namespace krait::models
