// One state of a diagonal linear model, x' = A x + B u with A a complex number, held for a step of dt:
//   x[t] = z x[t-1] + weight B u[t]
//   zero-order hold:  z = e^s,                    weight = dt (e^s - 1) / s          with s = dt A
//   bilinear:         z = (1 + s/2) / (1 - s/2),  weight = dt / (1 - s/2)
// and the derivatives of both, in double.
#pragma once

#include <complex>

namespace krait::kernels {

enum class Discretisation { kZeroOrderHold, kBilinear };

struct DiscreteState {
  std::complex<double> z, weight;
  std::complex<double> z_by_s, weight_by_s;  // derivatives by s at fixed dt
  std::complex<double> weight_by_dt;         // at fixed s
};

// Right to a few roundings for any s with Re s <= 0, however small.
DiscreteState discretise(Discretisation method, double dt, std::complex<double> a);

}  // namespace krait::kernels
