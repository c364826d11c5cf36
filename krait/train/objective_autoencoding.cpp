// Autoencoding: spans of a text are each replaced by one mask token, and the whole text is to be written. With
// deshuffling, a share of what is left is brought out of order as well, masks among it.
#include <algorithm>

#include "krait/train/objective_list.h"
#include "krait/train/objective_spans.h"

namespace krait::train {
namespace {

class Autoencoding final : public Objective {
 public:
  Autoencoding(double corruption, double mean, double shuffled, const ObjectiveTokens& tokens)
      : corruption_(corruption), mean_(mean), shuffled_(shuffled), tokens_(tokens) {}

  std::optional<ObjectiveExample> transform(std::span<const std::int32_t> document, std::int64_t room,
                                            Random& random) const override {
    // A masked text is no longer than the text.
    const auto used = std::min(static_cast<std::int64_t>(document.size()), (room - 1) / 2);
    if (used < 2) return std::nullopt;
    const auto target = document.first(static_cast<std::size_t>(used));
    std::vector<std::int32_t> source;
    std::int64_t at = 0;
    for (const TokenSpan& span : random_spans(random, used, span_count(used, corruption_, mean_, used), mean_)) {
      source.insert(source.end(), target.begin() + at, target.begin() + span.begin);
      source.push_back(tokens_.mask);
      at = span.end();
    }
    source.insert(source.end(), target.begin() + at, target.end());
    shuffle_share(random, source, shuffled_);
    return ObjectiveExample{example_of(source, target, tokens_), used};
  }

 private:
  double corruption_, mean_, shuffled_;
  ObjectiveTokens tokens_;
};

std::unique_ptr<Objective> make(const ObjectiveValues& values, const ObjectiveTokens& tokens) {
  const auto shuffled = values.find("shuffled");
  return std::make_unique<Autoencoding>(values.at("corruption"), values.at("span"),
                                        shuffled == values.end() ? 0 : shuffled->second, tokens);
}

const ObjectiveParameter kCorruption = {"corruption", 0.5, 0.001, 0.9, false, "share of the tokens that are masked"};
const ObjectiveParameter kSpan = {"span", 3, 1, 100, false, "mean tokens of a masked span"};

}  // namespace

const ObjectiveKind kAutoencoding = {
    "autoencoding", "write a text of which spans are masked", {kCorruption, kSpan}, make};

const ObjectiveKind kAutoencodingWithDeshuffling = {
    "autoencoding_with_deshuffling",
    "write a text of which spans are masked and the rest is shuffled",
    {kCorruption, kSpan, {"shuffled", 0.75, 0, 1, false, "share of the masked text that is shuffled"}},
    make};

}  // namespace krait::train
