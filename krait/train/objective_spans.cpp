#include "krait/train/objective_spans.h"

#include <algorithm>
#include <cmath>

#include "krait/core/check.h"
#include "krait/train/random_stream.h"

namespace krait::train {

std::int64_t poisson(Random& random, double mean) {
  const double limit = std::exp(-mean);
  KRAIT_CHECK(limit > 0, "a mean of {} is too high for this way of drawing", mean);
  std::int64_t count = 0;
  for (double product = random.uniform(); product > limit; product *= random.uniform()) ++count;
  return count;
}

std::vector<TokenSpan> place_spans(Random& random, std::int64_t tokens, std::span<const std::int64_t> lengths,
                                   std::int64_t apart) {
  const auto count = static_cast<std::int64_t>(lengths.size());
  std::int64_t free = tokens;
  for (const std::int64_t length : lengths) free -= length;
  if (count > 0) free -= (count - 1) * apart;
  KRAIT_CHECK(free >= 0, "{} spans do not fit in {} tokens", count, tokens);
  // The free tokens and the spans in a row: any choice of the spans' places in it is one arrangement.
  auto places = distinct_below(random, free + count, count);
  std::ranges::sort(places);
  std::vector<TokenSpan> spans;
  std::int64_t taken = 0;  // by the spans before, with their distances, but as one place each
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t length = lengths[static_cast<std::size_t>(i)];
    spans.push_back({places[static_cast<std::size_t>(i)] + taken, length});
    taken += length + apart - 1;
  }
  return spans;
}

std::int64_t span_count(std::int64_t tokens, double share, double mean, std::int64_t most) {
  const double wanted = std::round(static_cast<double>(tokens) * share / mean);
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(wanted), 1, most);
}

std::vector<TokenSpan> random_spans(Random& random, std::int64_t tokens, std::int64_t count, double mean) {
  std::vector<std::int64_t> lengths;
  std::int64_t needed = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t length = std::max<std::int64_t>(1, poisson(random, mean));
    const std::int64_t distance = i == 0 ? 0 : 1;
    if (needed + distance + length > tokens) break;
    needed += distance + length;
    lengths.push_back(length);
  }
  return place_spans(random, tokens, lengths, 1);
}

void shuffle_share(Random& random, std::span<std::int32_t> tokens, double share) {
  const auto count = static_cast<std::int64_t>(std::round(share * static_cast<double>(tokens.size())));
  // The places come in an order by chance; their tokens go to the same places in rising order.
  const auto from = distinct_below(random, static_cast<std::int64_t>(tokens.size()), count);
  std::vector<std::int32_t> moved;
  for (const std::int64_t place : from) moved.push_back(tokens[static_cast<std::size_t>(place)]);
  auto to = from;
  std::ranges::sort(to);
  for (std::size_t i = 0; i < to.size(); ++i) tokens[static_cast<std::size_t>(to[i])] = moved[i];
}

}  // namespace krait::train
