#include "krait/nn/dense.h"

#include <ATen/Functions.h>

#include <cmath>

namespace krait::nn {

Dense::Dense(std::int64_t inputs, std::int64_t outputs, bool with_bias) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(inputs));
  weight = register_parameter("weight", at::empty({outputs, inputs}).uniform_(-bound, bound));
  if (with_bias) bias = register_parameter("bias", at::empty({outputs}).uniform_(-bound, bound));
}

ConvWeight::ConvWeight(std::int64_t channels, std::int64_t width, bool with_bias) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(width));
  weight = register_parameter("weight", at::empty({channels, 1, width}).uniform_(-bound, bound));
  if (with_bias) bias = register_parameter("bias", at::empty({channels}).uniform_(-bound, bound));
}

NormWeight::NormWeight(std::int64_t width) { weight = register_parameter("weight", at::ones({width})); }

}  // namespace krait::nn
