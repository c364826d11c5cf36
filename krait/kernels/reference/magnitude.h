// What an oracle of gradients adds up: the terms themselves, or their absolute values with half the decay, which the
// errors of any way to compute the gradients are measured against.
#pragma once

#include <cmath>

namespace krait::kernels::reference {

enum class Terms { kSigned, kMagnitude };

template <Terms kTerms>
double term(double v) {
  return kTerms == Terms::kMagnitude ? std::fabs(v) : v;
}

// exp(exponent), exponent <= 0.
template <Terms kTerms>
double decay_of(double exponent) {
  return std::exp(kTerms == Terms::kMagnitude ? 0.5 * exponent : exponent);
}

}  // namespace krait::kernels::reference
