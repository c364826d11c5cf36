// HAX's sparse causal attention (Zhan et al. 2025, arXiv 2507.00449): token t reads the values of two sets of tokens
// j <= t, in one softmax over their union.
//   recent(t):   the last R tokens whose key has the bucket of t's query; the bucket of a vector is the number whose
//   bit
//                i is 1 where component i of P (the vector, centred) is positive
//   selected(t): the S tokens of the highest scores; among equals the earlier ones
//   y[t] += E * sum_j softmax_j(q[t] . k[j]) v[j],   j in either set, each once
// Where both sets are empty nothing is added. R or S may be 0: hashing or selection alone.
//
// What later tokens can read has a fixed size, whatever the length of the sequence: the last R keys and values of each
// bucket (a ring), and the S best. That is the state, and nothing of the definition is lost: a token that left a ring
// has R later ones before it in every query's view of that bucket, one that left the best has S better ones, and
// neither can come back. A token that is in both stands in both with a link, by which it is counted once.
#pragma once

#include <span>

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

struct HaxAttention {
  static constexpr std::int64_t kMostHashes = 16;
  static constexpr std::int64_t kMostKeys = 4096;  // R + S

  std::int64_t key_width = 0;              // N
  std::int64_t value_width = 0;            // E
  std::int64_t hashes = 0;                 // bits of a bucket, at most kMostHashes
  std::int64_t recent = 0;                 // R
  std::int64_t selected = 0;               // S
  const float* hash_projection = nullptr;  // P transposed, [N, hashes]; not read where R is 0
  const float* output_scale = nullptr;     // E, [E]

  std::int64_t buckets() const { return recent == 0 ? 0 : std::int64_t{1} << hashes; }
  std::int64_t slots() const { return selected + buckets() * recent; }
  // The state in words of four bytes, one part after the other: how many of the best are there, their ranks [S], links
  // [S] and scores [S]; the next place of every ring [buckets]; keys [N, S] of the best and [buckets, N, R] of the
  // rings; values [slots, E], the best before the rings. Scores, keys and values are f32, all else int32, never
  // negative.
  std::int64_t ranks_at() const { return 1; }
  std::int64_t links_at() const { return ranks_at() + selected; }
  std::int64_t scores_at() const { return links_at() + selected; }
  std::int64_t rings_at() const { return scores_at() + selected; }
  std::int64_t keys_at() const { return rings_at() + buckets(); }
  std::int64_t values_at() const { return keys_at() + slots() * key_width; }
  std::int64_t state_words() const { return values_at() + slots() * value_width; }
};

// q, k [M, N]; their centred forms [M, N], which are hashed, empty where R is 0; scores [M, 1], empty where S is 0;
// v [M, E].
struct HaxInputs {
  RowsIn q, k, centred_q, centred_k, scores, v;
};

// y [M, E] must not overlap the inputs. Each sequence's state is read as that before its first row and left as that
// after its last; zero bytes are the state before the first token.
void hax_attention(ThreadPool& pool, const HaxAttention& hax, const HaxInputs& in,
                   std::span<const SequenceRows> sequences, RowsOut y);

}  // namespace krait::kernels
