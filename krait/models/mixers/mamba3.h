// The Mamba-3 mixer (arXiv 2603.15569), SISO and MIMO; no convolution.
//   [z; x; B; C; dt; A; trap; angle] = W_in u,   out = W_out trapezoidal_scan(…)
// The scan's header has the equations.
#pragma once

#include <string>

#include "krait/kernels/matmul.h"
#include "krait/kernels/scan_trapezoidal.h"
#include "krait/models/mixers/mixer.h"
#include "krait/models/state_layout.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

struct Mamba3Dimensions {
  std::int64_t width = 0;        // D
  std::int64_t heads = 0;        // H
  std::int64_t head_width = 64;  // P; the inner width is H*P
  std::int64_t states = 128;     // N
  std::int64_t groups = 1;       // G
  std::int64_t rank = 1;         // R
  std::int64_t angles = 0;       // pairs of states that turn
  bool mimo = false;             // pairs (i, i + N / 2) rather than (2i, 2i + 1), and mixes of x, z and y, for any R
  bool output_norm = false;      // a norm of each head before the gate
  float decay_floor = 1e-4F;
};

class Mamba3Mixer final : public Mixer {
 public:
  // Loads the tensors of `scope` and adds four tensors to the layout: the state [H, N, P], the angles [H, angles], the
  // last keys [H, R, N] and values [H, P].
  Mamba3Mixer(const WeightScope& scope, const Mamba3Dimensions& dimensions, StateLayout& layout,
              const std::string& state_name);

  // u [M, D] -> out [M, D]; advances the states of the step's segments.
  void forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const override;

 private:
  std::int64_t inner() const { return dimensions_.heads * dimensions_.head_width; }
  std::int64_t inputs() const { return dimensions_.rank * dimensions_.groups * dimensions_.states; }

  Mamba3Dimensions dimensions_;
  kernels::WeightMatrix in_proj_;   // [2HP + 2RGN + 3H + angles, D], rows z, x, B, C, dt, A, trap, angle
  kernels::WeightMatrix out_proj_;  // [D, HP]
  kernels::TrapezoidalScan scan_;
  std::uint64_t state_offset_ = 0;
  std::uint64_t state_bytes_ = 0;
};

}  // namespace krait::models
