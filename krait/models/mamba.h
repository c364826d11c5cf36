// What a Mamba or FalconMamba checkpoint says of itself.
#pragma once

#include "krait/models/mixers/mamba1.h"
#include "krait/models/residual_model.h"

namespace krait::models {

struct MambaConfig {
  ResidualConfig residual;
  Mamba1Dimensions mixer;
};

MambaConfig read_mamba(WeightLoader& loader);

}  // namespace krait::models
