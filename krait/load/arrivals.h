// When requests come, whoever is still being answered: an open loop. Times between arrivals are
//   fixed     all the same
//   poisson   exponential, as of many people who know nothing of each other
//   gamma     of a coefficient of variation of one's choice: above 1 they come in bursts
// Gamma variates: Marsaglia and Tsang, "A simple method for generating gamma variables", ACM TOMS 2000.
#pragma once

#include "krait/core/random.h"

namespace krait::load {

enum class ArrivalKind { fixed, poisson, gamma };

struct ArrivalOptions {
  ArrivalKind kind = ArrivalKind::poisson;
  double per_second = 1;
  double variation = 2;  // of gamma: standard deviation over mean
};

class Arrivals {
 public:
  explicit Arrivals(const ArrivalOptions& options) : options_(options) {}
  // Seconds until the next one.
  double next(Random& random) const;

 private:
  ArrivalOptions options_;
};

// Of mean `shape`.
double gamma_variate(double shape, Random& random);

}  // namespace krait::load
