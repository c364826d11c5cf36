// Parity: whether the ones among the bits read so far are odd in number. The least that needs a state which is not
// forgotten and flips; a linear recurrence whose transitions have no negative eigenvalues cannot do it for every length
// (Sarrof et al. 2024; Grazzi et al. 2024, "Unlocking state-tracking in linear RNNs through negative eigenvalues").
#include "krait/train/random_stream.h"
#include "krait/train/task_list.h"

namespace krait::train {
namespace {

class Parity final : public Task {
 public:
  Parity(std::int64_t shortest, std::int64_t longest, bool every_place, bool own_share, bool begins)
      : shortest_(shortest), longest_(longest), every_place_(every_place), own_share_(own_share), begins_(begins) {}

  std::int64_t vocabulary() const override { return begins_ ? 3 : 2; }
  std::int64_t longest() const override { return longest_ + (begins_ ? 1 : 0); }

  Example example(std::uint64_t seed, std::uint64_t index) const override {
    Random random = random_stream(seed, {stream_name(kParity.name), index});
    const std::int64_t length = between(random, shortest_, longest_);
    Example example;
    const double share = own_share_ ? random.uniform() : 0.5;
    std::int32_t parity = 0;
    if (begins_) {
      example.ids.push_back(kBegin);
      example.labels.push_back(kNoLabel);
    }
    for (std::int64_t i = 0; i < length; ++i) {
      const auto bit = static_cast<std::int32_t>(own_share_ ? random.uniform() < share : below(random, 2));
      parity ^= bit;
      example.ids.push_back(bit);
      example.labels.push_back(every_place_ || i + 1 == length ? parity : kNoLabel);
    }
    return example;
  }

  std::string spell(std::int32_t token) const override { return token == kBegin ? "begin" : fmt::format("{}", token); }

 private:
  static constexpr std::int32_t kBegin = 2;
  std::int64_t shortest_, longest_;
  bool every_place_, own_share_, begins_;
};

Result<std::unique_ptr<Task>> make(const TaskValues& values) {
  const std::int64_t shortest = values.at("shortest"), longest = values.at("length");
  if (shortest > longest) {
    return fail(ErrorCode::kInvalidArgument, "[task] parity: shortest {} is above length {}", shortest, longest);
  }
  return std::make_unique<Parity>(shortest, longest, values.at("every_place") != 0, values.at("own_share") != 0,
                                  values.at("begins") != 0);
}

}  // namespace

const TaskKind kParity = {"parity",
                          "say whether the ones are odd in number",
                          {{"length", 40, 1, 1 << 20, "the most bits"},
                           {"shortest", 3, 1, 1 << 20, "the fewest bits"},
                           {"every_place", 0, 0, 1, "1: ask at every bit; 0: at the last"},
                           {"own_share", 0, 0, 1, "1: ones have a share of their own in each row; 0: half"},
                           {"begins", 0, 0, 1, "1: a token of its own stands before the bits"}},
                          make};

}  // namespace krait::train
