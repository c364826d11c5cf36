// HAX's sparse attention in double, from its definition: every token looks at all tokens before it. No rings, no state.
#pragma once

#include <vector>

#include "krait/kernels/hax_attention.h"

namespace krait::kernels::reference {

// One sequence from its first token on; y [M, E] is added to.
void hax_attention(const HaxAttention& hax, const HaxInputs& in, Rows<double> y);

// The tokens that token t reads, in order.
std::vector<std::int64_t> hax_tokens(const HaxAttention& hax, const HaxInputs& in, std::int64_t t);

}  // namespace krait::kernels::reference
