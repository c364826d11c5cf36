// The mixer of Mamba (Gu & Dao 2023):
//   [x; z] = W_in u,  x = silu(conv(x)),  [dt; B; C] = W_x x
//   y = selective_scan(x, W_dt dt, A, B, C, D) silu(z),  out = W_out y
// Parameters have state-spaces/mamba's names.
// Rows of a prefix are also read backwards, with the same parameters, and what that scan says of them is added before
// the gate (Birdie; Blouir et al. 2024). Rows after a prefix see the forward state alone.
#pragma once

#include "krait/nn/dense.h"
#include "krait/nn/mamba_initialisers.h"
#include "krait/nn/mixer.h"

namespace krait::nn {

struct Mamba1Dimensions {
  std::int64_t width = 0;       // D
  std::int64_t inner = 0;       // E; 0: 2 D
  std::int64_t states = 16;     // N
  std::int64_t rank = 0;        // R; 0: ceil(D / 16)
  std::int64_t conv_width = 4;  // K
  TimeStepRange time_step = {};
};

class Mamba1Mixer : public Mixer {
 public:
  explicit Mamba1Mixer(const Mamba1Dimensions& dimensions);
  Tensor forward(const Tensor& u, const Batch& batch) override;

 protected:
  // With the zeros filled in.
  const Mamba1Dimensions& dimensions() const { return dimensions_; }
  // What else is added to what the scan says, before the gate; undefined: nothing. x [M, E], after the convolution.
  virtual Tensor addition(const Tensor& x, const Batch& batch) const;

 private:
  Tensor convolved(const Tensor& x, const Segments& segments) const;
  // z: the gate, or undefined.
  Tensor scan(const Tensor& convolved, const Tensor& z, const Segments& segments) const;

  Mamba1Dimensions dimensions_;
  std::shared_ptr<Dense> in_proj_, x_proj_, dt_proj_, out_proj_;
  Tensor conv_weight_, conv_bias_, a_log_, d_;
};

}  // namespace krait::nn
