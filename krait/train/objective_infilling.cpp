// Infilling (the span corruption of T5: Raffel et al. 2020): spans are replaced by numbered sentinels, and each
// sentinel is to be written with what stood there.
//
//   once [[mask_0]] a time there [[mask_1]] king | separator | [[mask_0]] upon [[mask_1]] was a
#include <algorithm>

#include "krait/train/objective_list.h"
#include "krait/train/objective_spans.h"

namespace krait::train {
namespace {

class Infilling final : public Objective {
 public:
  Infilling(double corruption, double mean, std::int64_t most, const ObjectiveTokens& tokens)
      : corruption_(corruption), mean_(mean), most_(std::min(most, tokens.sentinels)), tokens_(tokens) {}

  std::optional<ObjectiveExample> transform(std::span<const std::int32_t> document, std::int64_t room,
                                            Random& random) const override {
    // Every token once, every sentinel twice, and a separator. Of a longer text there are no fewer spans.
    const auto most = std::min(static_cast<std::int64_t>(document.size()), room);
    if (most < 1) return std::nullopt;
    const auto used = std::min(most, room - 1 - 2 * span_count(most, corruption_, mean_, most_));
    if (used < 2) return std::nullopt;
    const std::int64_t count = span_count(used, corruption_, mean_, most_);
    const auto text = document.first(static_cast<std::size_t>(used));
    std::vector<std::int32_t> source, target;
    std::int32_t sentinel = tokens_.first_sentinel;
    std::int64_t at = 0;
    for (const TokenSpan& span : random_spans(random, used, count, mean_)) {
      source.insert(source.end(), text.begin() + at, text.begin() + span.begin);
      source.push_back(sentinel);
      target.push_back(sentinel++);
      target.insert(target.end(), text.begin() + span.begin, text.begin() + span.end());
      at = span.end();
    }
    if (target.empty()) return std::nullopt;
    source.insert(source.end(), text.begin() + at, text.end());
    return ObjectiveExample{example_of(source, target, tokens_), used};
  }

 private:
  double corruption_, mean_;
  std::int64_t most_;
  ObjectiveTokens tokens_;
};

}  // namespace

const ObjectiveKind kInfilling = {
    "infilling",
    "write what stood in numbered gaps",
    {{"corruption", 0.15, 0.001, 0.9, false, "share of the tokens that are left out"},
     {"span", 3, 1, 100, false, "mean tokens of a gap"},
     {"spans", 20, 1, 1000, true, "the most gaps; never more than the tokenizer has sentinels"}},
    [](const ObjectiveValues& values, const ObjectiveTokens& tokens) -> std::unique_ptr<Objective> {
      return std::make_unique<Infilling>(values.at("corruption"), values.at("span"),
                                         static_cast<std::int64_t>(values.at("spans")), tokens);
    }};

}  // namespace krait::train
