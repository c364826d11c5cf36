// AdamW (Loshchilov & Hutter 2019) of one parameter in one pass over its memory, and the pass over a gradient that
// comes before. With g = gradient_scale * gradient, at step t = 1, 2, ...:
//   m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2
//   p = (1 - rate decay) p - rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon)
//   average = average_decay average + (1 - average_decay) p      where there is one
// The decay is decoupled: it does not pass through m and v. Numbers that belong to the step are worked out in double
// and rounded once.
#pragma once

#include <cstdint>
#include <span>

#include "krait/core/thread_pool.h"

namespace krait::kernels {

// The sum of the squares, in double and in an order that the length alone decides. It is finite exactly when every
// element is: no number of squares of floats overflows a double. So one pass tells both whether a step can be taken and
// the share of this gradient in the norm that clipping needs.
double sum_of_squares(ThreadPool& pool, std::span<const float> gradient);

struct AdamW {
  double rate = 1e-3;
  double b1 = 0.9;
  double b2 = 0.95;
  double epsilon = 1e-8;
  double decay = 0.0;           // of the parameter; 0 for norms, biases and A, as is usual
  std::int64_t step = 1;        // t, of this update
  double gradient_scale = 1.0;  // what clips the norm, and takes back what the loss was scaled by
  double average_decay = 0.0;   // of the moving average of the parameter
};

template <class Real>
struct AdamWParameterOf {
  std::span<Real> values;
  std::span<const Real> gradient;
  std::span<Real> m, v;          // zeros before the first step
  std::span<Real> average = {};  // empty: none
};
using AdamWParameter = AdamWParameterOf<float>;

// All spans are of one length and do not overlap.
void adamw_update(ThreadPool& pool, const AdamW& adamw, const AdamWParameter& parameter);

}  // namespace krait::kernels
