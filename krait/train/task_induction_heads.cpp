// Induction heads (Olsson et al. 2022; as a task in Dao et al. 2023, "Hungry hungry hippos", and Gu and Dao 2023): a
// special token stands once somewhere and once at the end; what followed it the first time is asked for.
//
//   7 2 * 5 1 3 … 8 *  ->  5 at the last place
#include "krait/train/random_stream.h"
#include "krait/train/task_list.h"

namespace krait::train {
namespace {

class InductionHeads final : public Task {
 public:
  InductionHeads(std::int64_t shortest, std::int64_t length, std::int64_t symbols)
      : shortest_(shortest), length_(length), symbols_(symbols) {}

  std::int64_t vocabulary() const override { return symbols_ + 1; }
  std::int64_t longest() const override { return length_; }

  Example example(std::uint64_t seed, std::uint64_t index) const override {
    Random random = random_stream(seed, {stream_name(kInductionHeads.name), index});
    Example example;
    const std::int64_t length = shortest_ < length_ ? between(random, shortest_, length_) : length_;
    for (std::int64_t i = 0; i < length; ++i) {
      example.ids.push_back(static_cast<std::int32_t>(between(random, 0, symbols_ - 1)));
    }
    example.labels.assign(example.ids.size(), kNoLabel);
    // What follows it is before the end.
    const auto place = static_cast<std::size_t>(between(random, 0, length - 3));
    example.ids[place] = example.ids.back() = static_cast<std::int32_t>(symbols_);
    example.labels.back() = example.ids[place + 1];
    return example;
  }

  std::string spell(std::int32_t token) const override {
    return token == symbols_ ? "special" : fmt::format("{}", token);
  }

 private:
  std::int64_t shortest_, length_, symbols_;
};

Result<std::unique_ptr<Task>> make(const TaskValues& values) {
  const std::int64_t length = values.at("length"), shortest = values.at("shortest");
  if (shortest > length || (shortest > 0 && shortest < 3)) {
    return fail(ErrorCode::kInvalidArgument, "[task] induction_heads: shortest {} is not from 3 to length {}, nor 0",
                shortest, length);
  }
  return std::make_unique<InductionHeads>(shortest > 0 ? shortest : length, length, values.at("symbols"));
}

}  // namespace

const TaskKind kInductionHeads = {"induction_heads",
                                  "say what followed the special token the first time",
                                  {{"length", 256, 3, 1 << 20, "the most tokens"},
                                   {"shortest", 0, 0, 1 << 20, "the fewest tokens; 0: all have the most"},
                                   {"symbols", 15, 1, 1 << 16, "different tokens beside the special one"}},
                                  make};

}  // namespace krait::train
