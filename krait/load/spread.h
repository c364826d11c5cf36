// Numbers that differ from request to request: lengths of prompts and replies, and times to think.
//
//   128               always that
//   64-256            uniform between the two
//   exp:200           exponential of that mean
//   lognormal:200:1.5 log-normal of that mean and coefficient of variation
#pragma once

#include <string_view>

#include "krait/core/error.h"
#include "krait/core/random.h"

namespace krait::load {

class Spread {
 public:
  Spread() = default;
  explicit Spread(double value) : first_(value), second_(value) {}
  static Result<Spread> parse(std::string_view text);  // kInvalidArgument

  double draw(Random& random) const;
  double mean() const;

 private:
  enum class Kind { uniform, exponential, lognormal };
  Kind kind_ = Kind::uniform;
  double first_ = 0;   // least, or mean
  double second_ = 0;  // most, or coefficient of variation
};

}  // namespace krait::load
