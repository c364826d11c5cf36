// Where the time of steps goes, operator by operator: what a roofline needs. Each lap ends one operator: the time since
// the lap before is its own. Bytes are what the operator has to move at least (weights, states, activations in and out,
// once each), operations what it has to compute at least; kernels may do more.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <vector>

namespace krait::models {

struct OperatorCost {
  std::string_view name;  // a literal
  std::int64_t calls = 0;
  double seconds = 0.0;
  std::uint64_t bytes = 0;
  std::uint64_t operations = 0;  // two a multiply-add
  bool integers = false;         // products of 8-bit numbers
};

class OperatorProfile {
 public:
  void begin() { last_ = Clock::now(); }
  void lap(std::string_view name, std::uint64_t bytes, std::uint64_t operations, bool integers = false) {
    const Clock::time_point now = Clock::now();
    auto found = std::ranges::find(costs_, name, &OperatorCost::name);
    if (found == costs_.end()) found = costs_.insert(costs_.end(), OperatorCost{name});
    ++found->calls;
    found->seconds += std::chrono::duration<double>(now - last_).count();
    found->bytes += bytes;
    found->operations += operations;
    found->integers = integers;
    last_ = now;
  }
  // In the order in which operators first ran.
  const std::vector<OperatorCost>& costs() const { return costs_; }
  void clear() { costs_.clear(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point last_;
  std::vector<OperatorCost> costs_;
};

}  // namespace krait::models
