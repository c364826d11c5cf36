// The objectives that go on with a text as it is: next-token prediction, and prefix language modelling, where the first
// part is read in both directions and only the rest is predicted. No token is added. Where more of the document
// follows, the last label is its next token.
#include <algorithm>
#include <cmath>

#include "krait/train/objective_list.h"

namespace krait::train {
namespace {

// `prefix` tokens without labels but for the last of them.
std::optional<ObjectiveExample> go_on(std::span<const std::int32_t> document, std::int64_t used, std::int64_t prefix) {
  const auto count = static_cast<std::size_t>(used);
  ObjectiveExample made;
  made.used = used;
  made.example.prefix = prefix;
  made.example.ids.assign(document.begin(), document.begin() + used);
  for (std::size_t i = 0; i < count; ++i) {
    const bool labelled = static_cast<std::int64_t>(i) + 1 >= prefix && i + 1 < document.size();
    made.example.labels.push_back(labelled ? document[i + 1] : kNoLabel);
  }
  return made;
}

class NextToken final : public Objective {
 public:
  std::optional<ObjectiveExample> transform(std::span<const std::int32_t> document, std::int64_t room,
                                            Random&) const override {
    const auto used = std::min(static_cast<std::int64_t>(document.size()), room);
    if (used < 1 || document.size() < 2) return std::nullopt;
    return go_on(document, used, 0);
  }
};

class PrefixLanguageModeling final : public Objective {
 public:
  explicit PrefixLanguageModeling(double share) : share_(share) {}

  std::optional<ObjectiveExample> transform(std::span<const std::int32_t> document, std::int64_t room,
                                            Random&) const override {
    const auto used = std::min(static_cast<std::int64_t>(document.size()), room);
    if (used < 2) return std::nullopt;
    const auto prefix = static_cast<std::int64_t>(std::round(share_ * static_cast<double>(used)));
    return go_on(document, used, std::clamp<std::int64_t>(prefix, 1, used - 1));
  }

 private:
  double share_;
};

}  // namespace

const ObjectiveKind kNextToken = {"next_token",
                                  "say what follows",
                                  {},
                                  [](const ObjectiveValues&, const ObjectiveTokens&) -> std::unique_ptr<Objective> {
                                    return std::make_unique<NextToken>();
                                  },
                                  false};

const ObjectiveKind kPrefixLanguageModeling = {
    "prefix_language_modeling",
    "say what follows a prefix that is read in both directions",
    {{"prefix", 0.75, 0, 1, false, "share of the text that is the prefix"}},
    [](const ObjectiveValues& values, const ObjectiveTokens&) -> std::unique_ptr<Objective> {
      return std::make_unique<PrefixLanguageModeling>(values.at("prefix"));
    },
    false};

}  // namespace krait::train
