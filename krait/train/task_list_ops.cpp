// ListOps (Nangia and Bowman 2018) as in the Long Range Arena (Tay et al. 2021): operations on lists of digits, within
// one another; the value of the whole, a digit, is asked for at its last bracket.
//
//   [MAX 4 [MIN 2 7 ] [SM 9 3 ] 0 ]  ->  4
//
// MIN and MAX; MED, the median, of an even number the mean of the middle two rounded down; SM, the sum modulo 10.
// A tree begins at depth 1: below the greatest depth a node is an operation with probability 1/4, of 2 to 10 arguments,
// else a digit. Trees of a length outside the bounds are thrown away. An operation counts two tokens, a digit one.
#include <algorithm>
#include <numeric>
#include <optional>

#include "krait/core/check.h"
#include "krait/train/random_stream.h"
#include "krait/train/task_list.h"

namespace krait::train {
namespace {

enum Token : std::int32_t { kMin = 10, kMax, kMedian, kSumModulo, kClose, kTokens };
constexpr double kOperationShare = 0.25;

std::int32_t value_of(std::int32_t operation, std::vector<std::int32_t> arguments) {
  std::ranges::sort(arguments);
  const std::size_t count = arguments.size();
  switch (operation) {
    case kMin: return arguments.front();
    case kMax: return arguments.back();
    case kMedian: return (arguments[(count - 1) / 2] + arguments[count / 2]) / 2;
    default: return std::accumulate(arguments.begin(), arguments.end(), 0) % 10;
  }
}

class ListOps final : public Task {
 public:
  ListOps(std::int64_t shortest, std::int64_t longest, std::int64_t depth, std::int64_t arguments)
      : shortest_(shortest), longest_(longest), depth_(depth), arguments_(arguments) {}

  std::int64_t vocabulary() const override { return kTokens; }
  std::int64_t longest() const override { return longest_; }
  double hidden_share() const override { return 0.1; }

  Example example(std::uint64_t seed, std::uint64_t index) const override {
    // make() found one within kBudget; a thousand times as many tokens will do.
    auto made = try_example(seed, index, 1000 * kBudget);
    KRAIT_CHECK(made.has_value(), "no tree of {} to {} tokens", shortest_, longest_);
    return *std::move(made);
  }

  static constexpr std::int64_t kBudget = 20'000'000;  // tokens: a good part of a second

  // Nothing when trees of `budget` tokens in all were thrown away.
  std::optional<Example> try_example(std::uint64_t seed, std::uint64_t index, std::int64_t budget) const {
    Random random = random_stream(seed, {stream_name(kListOps.name), index});
    Example example;
    while (budget > 0) {
      example.ids.clear();
      const std::int32_t value = put_node(random, 1, example.ids);
      const auto length = static_cast<std::int64_t>(example.ids.size());
      budget -= length;
      if (length < shortest_ || length > longest_) continue;
      example.labels.assign(example.ids.size(), kNoLabel);
      example.labels.back() = value;
      return example;
    }
    return std::nullopt;
  }

  std::string spell(std::int32_t token) const override {
    if (token < kMin) return fmt::format("{}", token);
    static constexpr std::string_view kNames[] = {"[MIN", "[MAX", "[MED", "[SM", "]"};
    return std::string(kNames[token - kMin]);
  }

 private:
  // Once too long, the tree is lost and only ended.
  std::int32_t put_node(Random& random, std::int64_t depth, std::vector<std::int32_t>& ids) const {
    const bool too_long = static_cast<std::int64_t>(ids.size()) > longest_;
    if (too_long || depth >= depth_ || random.uniform() >= kOperationShare) {
      ids.push_back(static_cast<std::int32_t>(between(random, 0, 9)));
      return ids.back();
    }
    const auto operation = static_cast<std::int32_t>(between(random, kMin, kSumModulo));
    ids.push_back(operation);
    std::vector<std::int32_t> values;
    for (std::int64_t left = between(random, 2, arguments_); left > 0; --left) {
      values.push_back(put_node(random, depth + 1, ids));
    }
    ids.push_back(kClose);
    return value_of(operation, std::move(values));
  }

  std::int64_t shortest_, longest_, depth_, arguments_;
};

Result<std::unique_ptr<Task>> make(const TaskValues& values) {
  const std::int64_t shortest = values.at("shortest"), longest = values.at("length");
  auto task = std::make_unique<ListOps>(shortest, longest, values.at("depth"), values.at("arguments"));
  if (shortest > longest || !task->try_example(0, 0, ListOps::kBudget)) {
    return fail(ErrorCode::kInvalidArgument,
                "[task] list_ops: trees up to depth {} with up to {} arguments hardly ever have {} to {} tokens",
                values.at("depth"), values.at("arguments"), shortest, longest);
  }
  return task;
}

}  // namespace

const TaskKind kListOps = {"list_ops",
                           "say the value of nested operations on lists of digits",
                           {{"length", 1999, 1, 1 << 16, "the most tokens"},
                            {"shortest", 501, 1, 1 << 16, "the fewest tokens"},
                            {"depth", 10, 1, 64, "the greatest depth"},
                            {"arguments", 10, 2, 100, "the most arguments of an operation"}},
                           make};

}  // namespace krait::train
