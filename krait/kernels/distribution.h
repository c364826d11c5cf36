// Reductions over one row of logits: what samplers, perplexity and greedy decoding need.
// Lengths >= 1. NaN logits count as minus infinity. Ties go to the smaller index.
#pragma once

#include <cstdint>
#include <span>

namespace krait::kernels {

std::int64_t argmax(std::span<const float> logits);

// log(sum(exp(logits))), shifted by the maximum, the sum carried in double. All minus infinity gives minus infinity.
double log_sum_exp(std::span<const float> logits);

// probabilities[i] = exp(logits[i] / temperature) / sum; temperature > 0; in place allowed. Returns log(sum), infinite
// where the largest logit is.
double softmax(std::span<const float> logits, float temperature, std::span<float> probabilities);

// Indices of the k largest logits, largest first, into `indices` (size k <= logits.size()).
void top_k(std::span<const float> logits, std::span<std::int32_t> indices);

}  // namespace krait::kernels
