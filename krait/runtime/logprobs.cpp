#include "krait/runtime/logprobs.h"

#include <algorithm>

#include "krait/core/check.h"
#include "krait/kernels/distribution.h"

namespace krait::runtime {

Logprobs logprobs_of(std::span<const float> logits, formats::TokenId chosen, std::int64_t top, std::int64_t drawable) {
  // Over the tokens that can be drawn: the padding rows of an embedding have logits that mean nothing.
  logits = logits.first(std::min(logits.size(), static_cast<std::size_t>(drawable)));
  KRAIT_CHECK(chosen >= 0 && static_cast<std::size_t>(chosen) < logits.size(), "token {} of {} that can be drawn",
              chosen, logits.size());
  const double total = kernels::log_sum_exp(logits);
  const auto of = [&](std::int32_t id) {
    return static_cast<float>(static_cast<double>(logits[static_cast<std::size_t>(id)]) - total);
  };
  Logprobs result{.chosen = of(chosen), .top = {}};
  std::vector<std::int32_t> likeliest(
      std::min(logits.size(), static_cast<std::size_t>(std::max<std::int64_t>(top, 0))));
  if (!likeliest.empty()) kernels::top_k(logits, likeliest);
  result.top.reserve(likeliest.size());
  for (const std::int32_t id : likeliest) result.top.emplace_back(id, of(id));
  return result;
}

}  // namespace krait::runtime
