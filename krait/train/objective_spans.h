// Random spans of a document, for objectives that leave parts of it out.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "krait/core/random.h"

namespace krait::train {

struct TokenSpan {
  std::int64_t begin = 0;
  std::int64_t length = 0;
  std::int64_t end() const { return begin + length; }
};

// Poisson's distribution by Knuth's product of uniform numbers; for means up to a few hundred.
std::int64_t poisson(Random& random, double mean);

// Spans of these lengths, in this order, within `tokens`, with at least `apart` tokens between two; all such places are
// equally likely. The lengths and distances must fit.
std::vector<TokenSpan> place_spans(Random& random, std::int64_t tokens, std::span<const std::int64_t> lengths,
                                   std::int64_t apart);

// How many spans of `mean` tokens make `share` of `tokens` tokens: at least one, at most `most`.
std::int64_t span_count(std::int64_t tokens, double share, double mean, std::int64_t most);

// That many spans, their lengths by Poisson's distribution but at least 1, one token apart at the least. As many as
// fit.
std::vector<TokenSpan> random_spans(Random& random, std::int64_t tokens, std::int64_t count, double mean);

// Puts `share` of the tokens, chosen by chance, in an order by chance, at the places that they have together.
void shuffle_share(Random& random, std::span<std::int32_t> tokens, double share);

}  // namespace krait::train
