// Modular arithmetic (Delétang et al. 2022, "Neural networks and the Chomsky hierarchy"): the value of an expression
// modulo a small number. Without brackets it is a regular language: products first, then sums from left to right. With
// brackets every operation stands in its own pair, which takes a stack.
//
//   3 + 2 * 4 =                ->  1 at the equals sign (modulo 5)
//   ( ( 1 - 3 ) * - 4 ) =      ->  3
//
// An expression of n tokens in brackets is: n = 1 a number, 2 minus a number, 3 ( number ), 4 ( - number ), and from 5
// on ( left operator right ) with the length of left uniform from 1 to n - 4.
#include "krait/core/check.h"
#include "krait/train/random_stream.h"
#include "krait/train/task_list.h"

namespace krait::train {
namespace {

class ModularArithmetic final : public Task {
 public:
  ModularArithmetic(std::int64_t shortest, std::int64_t longest, std::int64_t modulus, bool brackets)
      : shortest_(shortest), longest_(longest), modulus_(modulus), brackets_(brackets) {}

  std::int64_t vocabulary() const override { return modulus_ + kSigns; }
  std::int64_t longest() const override { return longest_ + 1; }

  Example example(std::uint64_t seed, std::uint64_t index) const override {
    Random random = random_stream(seed, {stream_name(kModularArithmetic.name), index});
    Example example;
    std::int64_t value;
    if (brackets_) {
      value = put_bracketed(random, between(random, shortest_, longest_), example.ids);
    } else {
      // Numbers and operators take turns: the length is odd.
      value = put_flat(random, between(random, shortest_ / 2, (longest_ - 1) / 2), example.ids);
    }
    example.ids.push_back(sign(kEquals));
    example.labels.assign(example.ids.size(), kNoLabel);
    example.labels.back() = static_cast<std::int32_t>(value);
    return example;
  }

  std::string spell(std::int32_t token) const override {
    if (token < modulus_) return fmt::format("{}", token);
    return std::string(1, "+-*()="[token - modulus_]);
  }

 private:
  enum Sign : std::int32_t { kPlus, kMinus, kTimes, kOpen, kClose, kEquals, kSigns };
  std::int32_t sign(Sign which) const { return static_cast<std::int32_t>(modulus_) + which; }
  std::int64_t reduced(std::int64_t value) const { return (value % modulus_ + modulus_) % modulus_; }

  std::int64_t put_number(Random& random, std::vector<std::int32_t>& ids) const {
    const std::int64_t number = between(random, 0, modulus_ - 1);
    ids.push_back(static_cast<std::int32_t>(number));
    return number;
  }

  std::int64_t put_flat(Random& random, std::int64_t operators, std::vector<std::int32_t>& ids) const {
    std::int64_t sum = 0;
    std::int64_t product = put_number(random, ids);
    for (std::int64_t i = 0; i < operators; ++i) {
      const auto which = static_cast<Sign>(between(random, kPlus, kTimes));
      ids.push_back(sign(which));
      const std::int64_t number = put_number(random, ids);
      if (which == kTimes) {
        product = reduced(product * number);
      } else {
        sum = reduced(sum + product);
        product = which == kPlus ? number : -number;
      }
    }
    return reduced(sum + product);
  }

  std::int64_t put_bracketed(Random& random, std::int64_t length, std::vector<std::int32_t>& ids) const {
    if (length == 1) return put_number(random, ids);
    if (length == 2) {
      ids.push_back(sign(kMinus));
      return reduced(-put_number(random, ids));
    }
    ids.push_back(sign(kOpen));
    std::int64_t value;
    if (length <= 4) {
      value = put_bracketed(random, length - 2, ids);
    } else {
      const std::int64_t left_length = between(random, 1, length - 4);
      const std::int64_t left = put_bracketed(random, left_length, ids);
      const auto which = static_cast<Sign>(between(random, kPlus, kTimes));
      ids.push_back(sign(which));
      const std::int64_t right = put_bracketed(random, length - 3 - left_length, ids);
      value = reduced(which == kPlus ? left + right : which == kMinus ? left - right : left * right);
    }
    ids.push_back(sign(kClose));
    return value;
  }

  std::int64_t shortest_, longest_, modulus_;
  bool brackets_;
};

Result<std::unique_ptr<Task>> make(const TaskValues& values) {
  const std::int64_t shortest = values.at("shortest"), longest = values.at("length");
  const bool brackets = values.at("brackets") != 0;
  if (shortest > longest || (!brackets && shortest == longest && longest % 2 == 0)) {
    return fail(ErrorCode::kInvalidArgument, "[task] modular_arithmetic: no expression has {} to {} tokens{}", shortest,
                longest, brackets ? "" : " without brackets");
  }
  return std::make_unique<ModularArithmetic>(shortest, longest, values.at("modulus"), brackets);
}

}  // namespace

const TaskKind kModularArithmetic = {"modular_arithmetic",
                                     "say the value of an expression modulo a number",
                                     {{"length", 39, 1, 4096, "the most tokens of an expression"},
                                      {"shortest", 3, 1, 4096, "the fewest"},
                                      {"modulus", 5, 2, 1 << 16, "numbers are 0 to modulus - 1"},
                                      {"brackets", 0, 0, 1, "1: every operation in brackets"}},
                                     make};

}  // namespace krait::train
