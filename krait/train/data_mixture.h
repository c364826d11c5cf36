// Which source the next row comes from, so that each has its share at every time and not only in the long run:
// Tijdeman's rule for the chairman assignment problem (Discrete Mathematics 32, 1980). After n rows, source s of weight
// w[s] (they sum to 1) has given w[s] n of them, up to less than one. Nothing is drawn by chance.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace krait::train {

class Mixture {
 public:
  // Weights above zero, at least one; only their ratios count.
  explicit Mixture(std::span<const double> weights);

  std::size_t sources() const { return shares_.size(); }
  double share(std::size_t source) const { return shares_[source]; }
  // `taken`: how many rows each source has given so far.
  std::size_t next(std::span<const std::uint64_t> taken) const;

 private:
  std::vector<double> shares_;
};

}  // namespace krait::train
