// What a layer adds to the residual: something that maps rows to rows of the same width, and may keep a state.
#pragma once

#include "krait/kernels/rows.h"
#include "krait/models/step.h"

namespace krait::models {

class Mixer {
 public:
  virtual ~Mixer() = default;
  // u [M, D] -> out [M, D]; advances the states of the step's segments. u and out do not overlap.
  virtual void forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const = 0;
};

}  // namespace krait::models
