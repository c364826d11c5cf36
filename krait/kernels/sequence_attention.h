// Softmax attention over whole sequences, for training: no cache, every row at once, forward here and backward in
// sequence_attention_backward.h. Heads, streams and scale are those of attention.h, and so is the sum over several
// sources, one softmax over all that is in view (B'MOJO, Zancato et al. 2024):
//   o[t, h] = sum_s sum_j e_s[j] v_s[j, g'(h)] / sum_s sum_j e_s[j],   e_s[j] = exp(scale q_s[t, h] . k_s[j, g(h)])
// In view of row t are, of a source with a window w and a delay d,
//   the tokens t - d - w < j <= t - d        (w = 0: all j <= t - d)
//   all j < prefix, where t < prefix         (prefix LM, Raffel et al. 2020: the prefix sees itself in both directions)
// or, where the source has chosen tokens, those whose rows hold t. A row that sees nothing gets zeros.
// Flash form (Dao et al. 2022): scores exist for a block of rows and 64 tokens at a time, and what backward needs of
// the softmax is one number for each row and head, the logarithm of its sum. Where a sequence is cut for the threads
// depends on nothing but its length and the heads.
#pragma once

#include <span>
#include <vector>

#include "krait/core/thread_pool.h"
#include "krait/kernels/attention.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

// Rows [first, end) of a sequence see this token of it; all three are counted from the sequence's first row. Any set of
// tokens for each row can be said so: a token may stand in a list several times, with rows that do not overlap.
struct ChosenToken {
  std::int64_t token = 0;
  std::int64_t first = 0, end = 0;
  bool operator==(const ChosenToken&) const = default;
};

// T is float, or double for the oracle.
template <class T>
struct SequenceSource {
  Rows<const T> q;     // [M, Hq*Dk]
  Rows<const T> k, v;  // [M, Hk*Dk], [M, Hv*Dv]
  std::int64_t window = 0;
  std::int64_t delay = 0;
  // Not empty: a list for each sequence; then neither window, delay nor prefixes say what of this source is in view.
  std::span<const std::vector<ChosenToken>> chosen = {};
};

struct AttentionSequences {
  std::span<const SequenceRows> sequences;      // without states
  std::span<const std::int64_t> prefixes = {};  // one for each sequence, or none; only with delays of 0
};

// out [M, Hq*Dv]; lse [M, Hq] or empty: the natural logarithm of the sum of e over all that is in view, -infinity where
// nothing is. out and lse must not overlap the inputs. attention.kv.dtype and attention.window are not read: rows are
// f32, and every source has its own window. Rows of no sequence are left alone.
void sequence_attention(ThreadPool& pool, const Attention& attention, std::span<const SequenceSource<float>> sources,
                        const AttentionSequences& sequences, RowsOut out, RowsOut lse);

}  // namespace krait::kernels
