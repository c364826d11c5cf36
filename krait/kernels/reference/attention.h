// Attention in double, the plain way: all scores, then their softmax.
#pragma once

#include "krait/kernels/attention.h"

namespace krait::kernels::reference {

// One sequence: q [M, Hq*Dk] are the queries of tokens position … position + M; k [T, Hk*Dk] and v [T, Hv*Dv] those of
// tokens 0 … T, T >= position + M. out [M, Hq*Dv]. attention.kv.dtype does not matter.
void attention(const Attention& attention, RowsIn q, std::int64_t position, RowsIn k, RowsIn v, Rows<double> out);

}  // namespace krait::kernels::reference
