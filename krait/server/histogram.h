// Counts of values by fixed bounds, as Prometheus has them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace krait::server {

class Histogram {
 public:
  Histogram() = default;
  // Rising upper bounds, each of its bucket; one bucket more takes what is above them all.
  explicit Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

  void add(double value) {
    if (counts_.empty()) counts_.resize(1);
    ++counts_[static_cast<std::size_t>(std::ranges::lower_bound(bounds_, value) - bounds_.begin())];
    ++count_;
    sum_ += value;
  }
  const std::vector<double>& bounds() const { return bounds_; }
  const std::vector<std::uint64_t>& counts() const { return counts_; }  // of each bucket alone, not added up
  std::uint64_t count() const { return count_; }
  double sum() const { return sum_; }

 private:
  std::vector<double> bounds_;
  std::vector<std::uint64_t> counts_;
  std::uint64_t count_ = 0;
  double sum_ = 0;
};

}  // namespace krait::server
