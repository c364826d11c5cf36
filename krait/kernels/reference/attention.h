// Attention in double, the plain way: all scores, then their softmax.
#pragma once

#include <functional>
#include <span>

#include "krait/kernels/attention.h"

namespace krait::kernels::reference {

// k [T, Hk*Dk] and v [T, Hv*Dv] of tokens 0 … T, and the queries q [M, Hq*Dk] that read them.
struct AttentionSource {
  RowsIn q, k, v;
  std::function<bool(std::int64_t token, std::int64_t j)> sees;  // the query of `token` the key of j
};

// One sequence: the queries are those of tokens position … position + M. One softmax over all keys that a query sees
// in any source. out [M, Hq*Dv]. attention.kv.dtype and attention.window do not matter.
void attention(const Attention& attention, std::span<const AttentionSource> sources, std::int64_t position,
               Rows<double> out);

// Of one source, whose queries see the last attention.window tokens; T >= position + M.
void attention(const Attention& attention, RowsIn q, std::int64_t position, RowsIn k, RowsIn v, Rows<double> out);

}  // namespace krait::kernels::reference
