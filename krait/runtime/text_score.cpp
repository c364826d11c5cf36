#include "krait/runtime/text_score.h"

#include "krait/kernels/distribution.h"

namespace krait::runtime {

void TextScore::score(std::span<const float> logits, TokenId id) {
  nats_ += kernels::log_sum_exp(logits) - static_cast<double>(logits[static_cast<std::size_t>(id)]);
  ++scored_;
}

void TextScore::feed(std::span<const TokenId> tokens) {
  if (tokens.empty()) return;
  if (!session_.logits().empty()) score(session_.logits(), tokens.front());
  session_.feed_each(tokens, [&](std::int64_t index, std::span<const float> logits) {
    const auto next = static_cast<std::size_t>(index) + 1;
    if (next < tokens.size()) score(logits, tokens[next]);
  });
  tokens_ += static_cast<std::int64_t>(tokens.size());
}

}  // namespace krait::runtime
