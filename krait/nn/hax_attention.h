// HAX's sparse attention under autograd (Zhan et al. 2025; kernels/hax_sequence.h): which tokens a row reads, the
// attention over them, and the loss that teaches the scores (kernels/hax_ranking_loss.h).
#pragma once

#include <vector>

#include "krait/nn/segments.h"
#include "krait/nn/tensor_rows.h"

namespace krait::nn {

struct HaxChoice {
  Tensor hash_projection = {};  // [hashes, N]; undefined: no hashing
  std::int64_t recent = 0;      // R keys of a bucket
  std::int64_t selected = 0;    // S keys of the highest scores
};

// int32 [M, 1 + R + S]: for each row how many tokens it reads, then their rows. centred_q and centred_k [..., N] are
// read where R is not 0, scores [..., 1] where S is not 0. No gradient.
Tensor hax_choose_tokens(const HaxChoice& choice, const Tensor& centred_q, const Tensor& centred_k,
                         const Tensor& scores, const Segments& segments);

// [..., E]: output_scale * sum_j softmax_j(q . k[j]) v[j] over the chosen tokens; zero where a row has none.
// q, k [..., N]; v [..., E]; output_scale [E].
Tensor hax_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& output_scale,
                     const Tensor& tokens, const Segments& segments);

// A number, the ranking loss of scores [..., 1]. q, k [..., N] tell how much tokens are wanted and get no gradient.
// drawn: for each segment some of its rows, as rows of the batch, each of them once.
Tensor hax_ranking_loss(const Tensor& scores, const Tensor& q, const Tensor& k, const Segments& segments,
                        const std::vector<std::vector<std::int64_t>>& drawn);

}  // namespace krait::nn
