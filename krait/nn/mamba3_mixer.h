// The mixer of Mamba-3 (arXiv 2603.15569), SISO and MIMO:
//   [z; x; B; C; dt; A; trap; angle] = W_in u,   out = W_out trapezoidal_scan(…)
// Parameters have state-spaces/mamba's names. Prefixes are read both ways as in mamba1_mixer.h; the gate is the scan's
// own, so what both scans say is added after it, which without a norm is the same.
#pragma once

#include "krait/nn/dense.h"
#include "krait/nn/mamba_initialisers.h"
#include "krait/nn/mixer.h"

namespace krait::nn {

struct Mamba3Dimensions {
  std::int64_t width = 0;        // D
  std::int64_t inner = 0;        // E; 0: 2 D
  std::int64_t head_width = 64;  // P
  std::int64_t states = 128;     // N, even
  std::int64_t groups = 1;       // G
  bool mimo = false;             // R inputs and outputs a head, which mix x, z and y; pairs (i, i + N/2) turn
  std::int64_t rank = 4;         // R where it is MIMO
  double turning = 0.5;          // rope_fraction: how many of the states turn
  bool output_norm = false;      // of each head, before the gate
  double decay_floor = 1e-4;
  TimeStepRange time_step = {};
};

class Mamba3Mixer final : public Mixer {
 public:
  explicit Mamba3Mixer(const Mamba3Dimensions& dimensions);
  Tensor forward(const Tensor& u, const Batch& batch) override;

 private:
  // Of what W_in gives.
  Tensor scan(const Tensor& projected, const Segments& segments) const;

  Mamba3Dimensions dimensions_;
  std::int64_t heads_ = 0, angles_ = 0;
  std::shared_ptr<Dense> in_proj_, out_proj_;
  std::shared_ptr<NormWeight> b_norm_, c_norm_, norm_;
  Tensor dt_bias_, b_bias_, c_bias_, d_, value_mix_, gate_mix_, out_mix_;
};

}  // namespace krait::nn
