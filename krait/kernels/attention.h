// Causal softmax attention over a cache of keys and values (kv_page.h), with grouped queries (Ainslie et al. 2023),
// sliding windows, and heads that share values (differential attention, Ye et al. 2024):
//   o[t, h] = sum_j softmax_j(scale q[t, h] . k[j, g(h)]) v[j, g'(h)],   t - window < j <= t
// The sum may run over the keys of several sources, each with queries and a window of its own (B'MOJO, Zancato et al.
// 2024): one softmax over them all,
//   o[t, h] = sum_s sum_j e_s[j] v_s[j, g'(h)] / sum_s sum_j e_s[j],   e_s[j] = exp(scale q_s[t, h] . k_s[j, g(h)])
// One pass over the keys with a running maximum and sum (Milakov & Gimelshein 2018; Dao et al. 2022): scores are never
// stored beyond one page. Long caches are cut into parts for the threads; where they are cut depends on the sequence
// alone, so neither threads nor neighbours in the batch change a bit of the result.
#pragma once

#include <functional>
#include <span>

#include "krait/core/thread_pool.h"
#include "krait/kernels/kv_page.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

struct Attention {
  KvShape kv;
  std::int64_t query_heads = 0;  // Hq, a multiple of kv.key_heads
  float scale = 1.0F;
  std::int64_t window = 0;  // tokens that a token sees, itself counted; 0: all before it

  // With S = key_heads / value_heads streams, key head c + S g and query heads c + S (g r + i), i < r, share values g.
  // One stream is plain grouped attention: query head h has key head h / r.
  std::int64_t streams() const { return kv.key_heads / kv.value_heads; }
  std::int64_t queries_per_key() const { return query_heads / kv.key_heads; }
  std::int64_t query_head(std::int64_t key_head, std::int64_t i) const {
    const std::int64_t s = streams();
    return (key_head / s * queries_per_key() + i) * s + key_head % s;
  }
};

// A cache of keys and values, and the queries that read it.
struct AttentionSource {
  RowsIn q;     // [M, Hq*Dk]
  RowsIn k, v;  // [M, Hk*Dk], [M, Hv*Dv]: stored before anything is read. Empty: the cache has what is read already
  std::span<const KvSequence> sequences;
  // Where the window ends: row t sees t - delay - window < j <= t - delay. A ring then keeps window + delay tokens.
  std::int64_t delay = 0;
  // Not null: this source's tokens are chosen from what the others store. Called for each cut of the rows, none of
  // which crosses a page, when the others have stored theirs: sets pages, chosen_pages and lifetimes of every
  // sequence's share.
  std::function<void(std::span<KvSequence>)> choose = nullptr;
};

// out [M, Hq*Dv] = attention over all sources together. Their sequences have the same rows and positions; every row
// sees a token in one of them at least. out must not overlap any input.
void attention(ThreadPool& pool, const Attention& attention, std::span<const AttentionSource> sources, RowsOut out);

// Of one source. q [M, Hq*Dk], k [M, Hk*Dk], v [M, Hv*Dv]: stores the new keys and values, then out [M, Hq*Dv] =
// attention over all. Without k and v (empty) only what the cache has is read: it must hold the rows' own tokens
// already. out must not overlap the others. A ring must have kv_ring_pages(window) pages; rows are then stored and read
// page by page.
void attention(ThreadPool& pool, const Attention& attention, RowsIn q, RowsIn k, RowsIn v,
               std::span<const KvSequence> sequences, RowsOut out);

}  // namespace krait::kernels
