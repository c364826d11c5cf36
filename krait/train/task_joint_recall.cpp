// Joint recall (Zhan et al. 2025, "Overcoming long-context limitations of state-space models via context-dependent
// sparse attention", arXiv 2507.00449): a key has another value in each context, so that neither key nor context alone
// tells the value. The same keys stand in every context, in an order of its own; then pairs of context and key are
// asked for.
//
//   X a 4 b 7 | Y b 1 a 2 | Y a X b  ->  2 at the a, 7 at the b
#include <algorithm>

#include "krait/train/random_stream.h"
#include "krait/train/row_count.h"
#include "krait/train/task_list.h"

namespace krait::train {
namespace {

class JointRecall final : public Task {
 public:
  JointRecall(RowCount contexts, const TaskValues& values)
      : contexts_(contexts),
        keys_(values.at("keys")),
        queries_(values.at("queries")),
        context_symbols_(values.at("context_symbols")),
        key_symbols_(values.at("key_symbols")),
        values_(values.at("values")) {}

  std::int64_t vocabulary() const override { return context_symbols_ + key_symbols_ + values_; }
  std::int64_t longest() const override { return contexts_.most * (1 + 2 * keys_) + 2 * queries_; }

  Example example(std::uint64_t seed, std::uint64_t index) const override {
    Random random = random_stream(seed, {stream_name(kJointRecall.name), index});
    const std::int64_t count = contexts_.draw(random);
    const auto contexts = distinct_below(random, context_symbols_, count);
    const auto keys = distinct_below(random, key_symbols_, keys_);
    Example example;
    const auto put = [&](std::int64_t id, std::int32_t label = kNoLabel) {
      example.ids.push_back(static_cast<std::int32_t>(id));
      example.labels.push_back(label);
    };
    std::vector<std::int32_t> value_of(static_cast<std::size_t>(count * keys_));
    for (std::int64_t c = 0; c < count; ++c) {
      put(contexts[static_cast<std::size_t>(c)]);
      for (const std::int64_t k : distinct_below(random, keys_, keys_)) {
        const std::int64_t value = context_symbols_ + key_symbols_ + between(random, 0, values_ - 1);
        value_of[static_cast<std::size_t>(c * keys_ + k)] = static_cast<std::int32_t>(value);
        put(context_symbols_ + keys[static_cast<std::size_t>(k)]);
        put(value);
      }
    }
    for (const std::int64_t place : distinct_below(random, count * keys_, std::min(queries_, count * keys_))) {
      put(contexts[static_cast<std::size_t>(place / keys_)]);
      put(context_symbols_ + keys[static_cast<std::size_t>(place % keys_)], value_of[static_cast<std::size_t>(place)]);
    }
    return example;
  }

  std::string spell(std::int32_t token) const override {
    if (token < context_symbols_) return fmt::format("context {}", token);
    token -= static_cast<std::int32_t>(context_symbols_);
    if (token < key_symbols_) return fmt::format("key {}", token);
    return fmt::format("value {}", token - key_symbols_);
  }

 private:
  RowCount contexts_;
  std::int64_t keys_, queries_, context_symbols_, key_symbols_, values_;
};

Result<std::unique_ptr<Task>> make(const TaskValues& values) {
  const auto most = [&](const char* what, const char* of, std::int64_t bound) -> Result<void> {
    if (values.at(what) <= bound) return {};
    return fail(ErrorCode::kInvalidArgument, "[task] joint_recall: {} {}, but only {} {}", values.at(what), what, bound,
                of);
  };
  KRAIT_TRY(most("contexts", "context_symbols", values.at("context_symbols")));
  KRAIT_TRY(most("keys", "key_symbols", values.at("key_symbols")));
  KRAIT_TRY(most("queries", "pairs of context and key", values.at("contexts") * values.at("keys")));
  KRAIT_ASSIGN(const RowCount contexts, RowCount::read("joint_recall", values, "fewest_contexts", "contexts"));
  return std::make_unique<JointRecall>(contexts, values);
}

}  // namespace

const TaskKind kJointRecall = {
    "joint_recall",
    "say the value that a key had in a context",
    {{"contexts", 8, 1, 1 << 14, "contexts of an example"},
     {"fewest_contexts", 0, 0, 1 << 14, "of rows with fewer of them; 0: all have `contexts`"},
     {"keys", 8, 1, 1 << 14, "keys in each context, the same in all"},
     {"queries", 8, 1, 1 << 20, "pairs of context and key that are asked for, or all"},
     {"context_symbols", 16, 1, 1 << 16, "different contexts to choose from"},
     {"key_symbols", 16, 1, 1 << 16, "different keys to choose from"},
     {"values", 16, 1, 1 << 16, "different values"}},
    make};

}  // namespace krait::train
