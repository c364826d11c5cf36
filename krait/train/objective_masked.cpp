#include "krait/train/objective_masked.h"

#include <algorithm>

#include "krait/core/check.h"
#include "krait/train/objective_spans.h"

namespace krait::train {

std::vector<bool> hidden_places(std::int64_t length, const MaskedPlaces& places, Random& random) {
  KRAIT_CHECK(places.share >= 0 && places.share <= 1 && places.span >= 1, "a share of {} in spans of {}", places.share,
              places.span);
  const auto wanted =
      static_cast<std::int64_t>(static_cast<double>(length) * places.share / static_cast<double>(places.span));
  const std::int64_t fit = length / places.span;
  const auto count = static_cast<std::size_t>(std::min(fit, std::max<std::int64_t>(wanted, 1)));
  std::vector<bool> hidden(static_cast<std::size_t>(length), false);
  for (const TokenSpan& span : place_spans(random, length, std::vector(count, places.span), 0)) {
    for (std::int64_t i = span.begin; i < span.end(); ++i) hidden[static_cast<std::size_t>(i)] = true;
  }
  return hidden;
}

Example masked_tokens(std::span<const std::int32_t> tokens, const MaskedPlaces& places, std::int32_t mask,
                      Random& random) {
  const auto length = static_cast<std::int64_t>(tokens.size());
  const auto hidden = hidden_places(length, places, random);
  Example example;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    example.ids.push_back(hidden[i] ? mask : tokens[i]);
    example.labels.push_back(hidden[i] ? tokens[i] : kNoLabel);
  }
  example.prefix = length;
  return example;
}

MaskedSignal masked_signal(std::span<const float> signal, std::int64_t channels, const MaskedPlaces& places,
                           Random& random) {
  const auto size = static_cast<std::int64_t>(signal.size());
  KRAIT_CHECK(channels >= 1 && size % channels == 0, "{} values of {} channels", size, channels);
  const auto hidden = hidden_places(size / channels, places, random);
  MaskedSignal masked;
  masked.targets.assign(signal.begin(), signal.end());
  for (std::size_t t = 0; t < hidden.size(); ++t) {
    const auto row = signal.subspan(t * static_cast<std::size_t>(channels), static_cast<std::size_t>(channels));
    for (const float value : row) masked.inputs.push_back(hidden[t] ? 0.0F : value);
    masked.inputs.push_back(hidden[t] ? 1.0F : 0.0F);
    masked.loss.push_back(hidden[t] ? 1 : 0);
  }
  return masked;
}

}  // namespace krait::train
