// Softmax attention over whole sequences under autograd (kernels/sequence_attention.h): several sources in one softmax,
// windows, delays, prefixes and chosen tokens. No row sees past its segment.
#pragma once

#include <vector>

#include "krait/kernels/sequence_attention.h"
#include "krait/nn/segments.h"
#include "krait/nn/tensor_rows.h"

namespace krait::nn {

struct AttentionSource {
  Tensor q = {};            // [..., Hq*Dk]
  Tensor k = {}, v = {};    // [..., Hk*Dk], [..., Hv*Dv]
  std::int64_t window = 0;  // tokens in view, 0: all
  std::int64_t delay = 0;   // which end so many tokens ago
  // Not empty: for each segment the tokens that are in view, counted from its first row, and for which of its rows.
  std::vector<std::vector<kernels::ChosenToken>> chosen = {};
};

struct AttentionHeads {
  std::int64_t query = 0;  // Hq, a multiple of Hk
  std::int64_t key = 0;    // Hk
  std::int64_t value = 0;  // Hv; 0: as many as of keys. Fewer: heads share values (kernels/attention.h, streams)
  double scale = 0.0;      // of q . k; 0: 1 / sqrt(Dk)
};

// [..., Hq*Dv]. prefixes: none, or for each segment how many of its first rows see each other both ways.
Tensor sequence_attention(const AttentionHeads& heads, const std::vector<AttentionSource>& sources,
                          const Segments& segments, const std::vector<std::int64_t>& prefixes = {});

// Of one source: plain causal attention, grouped where there are fewer heads of keys than of queries.
Tensor causal_attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionHeads& heads,
                        const Segments& segments, std::int64_t window = 0,
                        const std::vector<std::int64_t>& prefixes = {});

}  // namespace krait::nn
