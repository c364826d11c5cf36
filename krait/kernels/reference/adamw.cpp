#include "krait/kernels/reference/adamw.h"

#include <cmath>

namespace krait::kernels::reference {

double sum_of_squares(std::span<const double> gradient) {
  double sum = 0.0;
  for (const double g : gradient) sum += g * g;
  return sum;
}

void adamw_update(const AdamW& adamw, const AdamWParameterOf<double>& parameter) {
  const auto step = static_cast<double>(adamw.step);
  for (std::size_t i = 0; i < parameter.values.size(); ++i) {
    const double g = adamw.gradient_scale * parameter.gradient[i];
    double& m = parameter.m[i];
    double& v = parameter.v[i];
    double& p = parameter.values[i];
    m = adamw.b1 * m + (1.0 - adamw.b1) * g;
    v = adamw.b2 * v + (1.0 - adamw.b2) * g * g;
    const double unbiased_m = m / (1.0 - std::pow(adamw.b1, step));
    const double unbiased_v = v / (1.0 - std::pow(adamw.b2, step));
    p = (1.0 - adamw.rate * adamw.decay) * p - adamw.rate * unbiased_m / (std::sqrt(unbiased_v) + adamw.epsilon);
    if (!parameter.average.empty()) {
      parameter.average[i] = adamw.average_decay * parameter.average[i] + (1.0 - adamw.average_decay) * p;
    }
  }
}

}  // namespace krait::kernels::reference
