#include "krait/kernels/diagonal_discretisation.h"

#include <cmath>

namespace krait::kernels {
namespace {

using Complex = std::complex<double>;

// e^s - 1 without cancellation: its real part is (e^x - 1) cos y - 2 sin^2(y / 2).
Complex exp_minus_one(Complex s) {
  const double half_sine = std::sin(0.5 * s.imag());
  return {std::expm1(s.real()) * std::cos(s.imag()) - 2.0 * half_sine * half_sine,
          std::exp(s.real()) * std::sin(s.imag())};
}

// phi(s) = (e^s - 1) / s and its derivative (e^s - phi) / s, which cancels near 0: there sum_k s^k (k+1) / (k+2)!.
Complex phi(Complex s) { return s == 0.0 ? Complex(1.0) : exp_minus_one(s) / s; }

Complex phi_derivative(Complex s) {
  if (std::abs(s) > 0.5) return (std::exp(s) - phi(s)) / s;
  Complex sum = 0.0, power = 1.0;
  double factorial = 2.0;         // (k + 2)!
  for (int k = 0; k < 16; ++k) {  // 0.5^16 17 / 18! is below 1e-19
    sum += power * ((k + 1.0) / factorial);
    power *= s;
    factorial *= k + 3.0;
  }
  return sum;
}

}  // namespace

DiscreteState discretise(Discretisation method, double dt, Complex a) {
  const Complex s = dt * a;
  if (method == Discretisation::kZeroOrderHold) {
    const Complex z = std::exp(s), mean = phi(s);
    return {.z = z, .weight = dt * mean, .z_by_s = z, .weight_by_s = dt * phi_derivative(s), .weight_by_dt = mean};
  }
  const Complex inverse = 1.0 / (1.0 - 0.5 * s);
  return {.z = (1.0 + 0.5 * s) * inverse,
          .weight = dt * inverse,
          .z_by_s = inverse * inverse,
          .weight_by_s = 0.5 * dt * inverse * inverse,
          .weight_by_dt = inverse};
}

}  // namespace krait::kernels
