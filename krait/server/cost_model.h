// How long a step of the engine takes, as a straight line that is fitted while it runs:
//   seconds(b, n) = base + row b + token n
// with b sequences that decode a token each and n tokens of prompts. For a model whose state has one size there is no
// term for how long the sequences are already; in hybrids that term moves slowly, and forgetting follows it.
//
// Least squares of the relative error, older steps counting less (each by `kKeep`), under the condition that no
// coefficient is negative: with three of them the best feasible subset is found by trying all (Lawson & Hanson 1974
// need iterations only for more). Not thread-safe.
#pragma once

#include <array>
#include <cstdint>

namespace krait::server {

struct StepShape {
  std::int64_t decodes = 0;        // b
  std::int64_t prompt_tokens = 0;  // n
};

class CostModel {
 public:
  // Seconds. What is believed before anything was measured; a few steps outweigh it.
  struct Line {
    double base = 2e-3;
    double row = 5e-4;
    double token = 5e-4;
  };
  explicit CostModel(const Line& prior);
  CostModel() : CostModel(Line{}) {}

  void observe(const StepShape& shape, double seconds);

  double seconds(const StepShape& shape) const {
    return line_.base + line_.row * static_cast<double>(shape.decodes) +
           line_.token * static_cast<double>(shape.prompt_tokens);
  }
  const Line& line() const { return line_; }

 private:
  static constexpr double kKeep = 0.98;  // the last 50 steps carry most of the weight
  void solve();

  // Of the weighted rows (1, b, n) / seconds against 1: X^T X and X^T y.
  std::array<std::array<double, 3>, 3> squares_ = {};
  std::array<double, 3> products_ = {};
  Line prior_;
  Line line_;
};

}  // namespace krait::server
