// Backward of sequence_attention.h. With p_s[t, j] = exp(scale q_s[t] . k_s[j] - lse[t]) of one head,
//   D[t] = do[t] . o[t],   ds_s[t, j] = p_s[t, j] (do[t] . v_s[j] - D[t])
//   dv_s[j] = sum_t p_s[t, j] do[t],   dq_s[t] = scale sum_j ds_s[t, j] k_s[j],   dk_s[j] = scale sum_t ds_s[t, j]
//   q_s[t]
// where dk and dv sum over the query heads that share them. p is computed anew, 64 tokens and a block of rows at a
// time (Dao et al. 2022). What is in view and which tokens are chosen has no gradient.
#pragma once

#include "krait/kernels/sequence_attention.h"

namespace krait::kernels {

// Of one source, shaped as its q, k and v. Written for the rows of the sequences; each may be empty. Two sources may
// name the same matrix (one that is q, k or v of both): it gets the sum.
template <class T>
struct SequenceAttentionGradients {
  Rows<T> q, k, v;
};

// out [M, Hq*Dv] and lse [M, Hq] as the forward pass left them, out_gradient [M, Hq*Dv]. One of `gradients` for each
// source; they must not overlap what is read.
void sequence_attention_backward(ThreadPool& pool, const Attention& attention,
                                 std::span<const SequenceSource<float>> sources, const AttentionSequences& sequences,
                                 RowsIn out, RowsIn lse, RowsIn out_gradient,
                                 std::span<const SequenceAttentionGradients<float>> gradients);

}  // namespace krait::kernels
