// The gated delta rule under autograd (kernels/scan_delta.h).
#pragma once

#include "krait/nn/scan_selective.h"

namespace krait::nn {

struct DeltaScanInputs {
  Tensor q = {}, k = {};  // [..., Hk*Dk], normalised and scaled (normalised_heads)
  Tensor v = {};          // [..., Hv*Dv]; value head h has key head h / (Hv / Hk)
  Tensor dt = {};         // [..., Hv]; the state decays by exp(a dt) before a row
  Tensor beta = {};       // [..., Hv]
  Tensor a = {};          // [Hv], negative: -exp(A_log)
  Tensor state = {};      // [S, Hv, Dk, Dv], before each segment; undefined: zeros
  std::int64_t key_heads = 1;
};

// y as v; the state is [S, Hv, Dk, Dv].
ScanResult delta_scan(const DeltaScanInputs& in, const Segments& segments);

// Each head of x [..., heads * D] by its own length: scale x / sqrt(sum x^2 + epsilon).
Tensor normalised_heads(const Tensor& x, std::int64_t heads, double epsilon, double scale = 1.0);

}  // namespace krait::nn
