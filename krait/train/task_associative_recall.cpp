// Multi-query associative recall, MQAR (Arora et al. 2023, "Zoology"): keys with their values, then the keys again in
// another order, at places that thin out by a power law; at each, its value is asked for. How many pairs a model
// recalls tells how much its state holds.
//
//   A 4 B 3 C 6 | . . C . A . . . B .  ->  6 at C, 4 at A, 3 at B
#include <algorithm>
#include <cmath>

#include "krait/train/random_stream.h"
#include "krait/train/row_count.h"
#include "krait/train/task_list.h"

namespace krait::train {
namespace {

constexpr double kPower = 0.01;  // of the paper: P(gap) ~ gap^(kPower - 1)

class AssociativeRecall final : public Task {
 public:
  AssociativeRecall(std::int64_t length, RowCount pairs, std::int64_t keys, std::int64_t values)
      : length_(length), pairs_(pairs), keys_(keys), values_(values) {}

  std::int64_t vocabulary() const override { return 1 + keys_ + values_; }
  std::int64_t longest() const override { return length_; }

  Example example(std::uint64_t seed, std::uint64_t index) const override {
    Random random = random_stream(seed, {stream_name(kAssociativeRecall.name), index});
    Example example;
    example.ids.assign(static_cast<std::size_t>(length_), kFiller);
    example.labels.assign(static_cast<std::size_t>(length_), kNoLabel);
    const std::int64_t pairs = pairs_.draw(random);
    const auto keys = distinct_below(random, keys_, pairs);
    const auto gaps = power_law_gaps(random, pairs);
    for (std::size_t pair = 0; pair < keys.size(); ++pair) {
      const auto key = static_cast<std::int32_t>(1 + keys[pair]);
      const auto value = static_cast<std::int32_t>(1 + keys_ + between(random, 0, values_ - 1));
      example.ids[2 * pair] = key;
      example.ids[2 * pair + 1] = value;
      const auto query = static_cast<std::size_t>(2 * pairs + 2 * gaps[pair]);
      example.ids[query] = key;
      example.labels[query] = value;
    }
    return example;
  }

  std::string spell(std::int32_t token) const override {
    if (token == kFiller) return ".";
    return token <= keys_ ? fmt::format("key {}", token - 1) : fmt::format("value {}", token - 1 - keys_);
  }

 private:
  static constexpr std::int32_t kFiller = 0;

  // A different gap for each pair, drawn one after the other without putting back, in proportion to (gap + 1)^(a - 1).
  // Those with the least of exponential times at these rates are such a draw (Efraimidis and Spirakis 2006).
  std::vector<std::int64_t> power_law_gaps(Random& random, std::int64_t pairs) const {
    std::vector<std::pair<double, std::int64_t>> times;
    for (std::int64_t gap = 0; gap < (length_ - 2 * pairs) / 2; ++gap) {
      const double rate = std::pow(static_cast<double>(gap + 1), kPower - 1);
      times.emplace_back(-std::log(1 - random.uniform()) / rate, gap);
    }
    std::ranges::partial_sort(times, times.begin() + pairs);
    std::vector<std::int64_t> gaps;
    for (std::int64_t i = 0; i < pairs; ++i) gaps.push_back(times[static_cast<std::size_t>(i)].second);
    return gaps;
  }

  std::int64_t length_;
  RowCount pairs_;
  std::int64_t keys_, values_;
};

Result<std::unique_ptr<Task>> make(const TaskValues& values) {
  const std::int64_t length = values.at("length"), pairs = values.at("pairs"), keys = values.at("keys");
  if (4 * pairs > length) {
    return fail(ErrorCode::kInvalidArgument, "[task] associative_recall: {} pairs need {} tokens, not {}", pairs,
                4 * pairs, length);
  }
  if (pairs > keys) {
    return fail(ErrorCode::kInvalidArgument, "[task] associative_recall: {} pairs of {} keys", pairs, keys);
  }
  KRAIT_ASSIGN(const RowCount of_row, RowCount::read("associative_recall", values, "fewest", "pairs"));
  return std::make_unique<AssociativeRecall>(length, of_row, keys, values.at("values"));
}

}  // namespace

const TaskKind kAssociativeRecall = {"associative_recall",
                                     "say the value of each key that comes again (MQAR)",
                                     {{"length", 64, 4, 1 << 20, "tokens"},
                                      {"pairs", 8, 1, 1 << 18, "keys with values"},
                                      {"fewest", 0, 0, 1 << 18, "of rows with fewer of them; 0: all have `pairs`"},
                                      {"keys", 64, 1, 1 << 20, "different keys to choose from"},
                                      {"values", 64, 1, 1 << 20, "different values"}},
                                     make};

}  // namespace krait::train
