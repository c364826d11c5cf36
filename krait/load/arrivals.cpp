#include "krait/load/arrivals.h"

#include <cmath>

namespace krait::load {

double gamma_variate(double shape, Random& random) {
  if (shape < 1) {
    const double power = std::pow(1 - random.uniform(), 1 / shape);
    return gamma_variate(shape + 1, random) * power;
  }
  const double d = shape - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = random.normal();
    const double v = std::pow(1 + c * x, 3);
    if (v <= 0) continue;
    const double u = 1 - random.uniform();
    if (std::log(u) < x * x / 2 + d - d * v + d * std::log(v)) return d * v;
  }
}

double Arrivals::next(Random& random) const {
  const double mean = 1 / options_.per_second;
  switch (options_.kind) {
    case ArrivalKind::fixed: return mean;
    case ArrivalKind::poisson: return -mean * std::log(1 - random.uniform());
    case ArrivalKind::gamma: {
      const double shape = 1 / (options_.variation * options_.variation);
      return mean / shape * gamma_variate(shape, random);
    }
  }
  return mean;
}

}  // namespace krait::load
