// HAX's sparse attention over whole sequences, for training: what hax_attention.h defines, in two steps without a
// state. Which tokens a row reads is decided first, from hashes and scores, by the code that decides it in inference;
//   y[t] += E * sum_j softmax_j(q[t] . k[j]) v[j],   j of the tokens that t reads
// follows. No gradient flows through the decision: what is hashed and scored learns from hax_ranking_loss.h, or not at
// all. Backward in hax_sequence_backward.h.
#pragma once

#include <span>

#include "krait/core/thread_pool.h"
#include "krait/kernels/hax_attention.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

// tokens [M, 1 + R + S] of every row of the sequences: how many tokens it reads, then their rows in the matrices (of
// its own sequence, itself perhaps among them), the recent ones from the youngest on before the selected ones.
// centred_q and centred_k [M, N] are empty where R is 0, scores [M, 1] where S is 0. Every sequence begins with its
// first row. Of `hax`, output_scale and value_width are not read.
void hax_choose_tokens(ThreadPool& pool, const HaxAttention& hax, RowsIn centred_q, RowsIn centred_k, RowsIn scores,
                       std::span<const SequenceRows> sequences, Rows<std::int32_t> tokens);

// T is float, or double for the oracle.
template <class T>
struct HaxReads {
  Rows<const T> q, k;               // [M, N]
  Rows<const T> v;                  // [M, E]
  const T* output_scale = nullptr;  // [E]
  Rows<const std::int32_t> tokens;  // [M, 1 + R + S]
};

// y [M, E] must not overlap the inputs. A row that reads nothing is left as it is.
void hax_sequence(ThreadPool& pool, const HaxReads<float>& in, std::span<const SequenceRows> sequences, RowsOut y);

}  // namespace krait::kernels
