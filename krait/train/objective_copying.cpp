// Copying a text, and deshuffling: putting a text right whose tokens were partly brought out of order.
#include <algorithm>

#include "krait/train/objective_list.h"
#include "krait/train/objective_spans.h"

namespace krait::train {
namespace {

// With share 0 nothing is shuffled, which is copying.
class Deshuffling final : public Objective {
 public:
  Deshuffling(double share, const ObjectiveTokens& tokens) : share_(share), tokens_(tokens) {}

  std::optional<ObjectiveExample> transform(std::span<const std::int32_t> document, std::int64_t room,
                                            Random& random) const override {
    // Twice, and a separator.
    const auto used = std::min(static_cast<std::int64_t>(document.size()), (room - 1) / 2);
    if (used < 1) return std::nullopt;
    const auto target = document.first(static_cast<std::size_t>(used));
    std::vector<std::int32_t> source(target.begin(), target.end());
    shuffle_share(random, source, share_);
    return ObjectiveExample{example_of(source, target, tokens_), used};
  }

 private:
  double share_;
  ObjectiveTokens tokens_;
};

}  // namespace

const ObjectiveKind kCopying = {
    "copying",
    "write the text once more",
    {},
    [](const ObjectiveValues&, const ObjectiveTokens& tokens) -> std::unique_ptr<Objective> {
      return std::make_unique<Deshuffling>(0, tokens);
    }};

const ObjectiveKind kDeshuffling = {
    "deshuffling",
    "write a shuffled text in its order",
    {{"share", 0.75, 0, 1, false, "share of the tokens that are shuffled"}},
    [](const ObjectiveValues& values, const ObjectiveTokens& tokens) -> std::unique_ptr<Objective> {
      return std::make_unique<Deshuffling>(values.at("share"), tokens);
    }};

}  // namespace krait::train
