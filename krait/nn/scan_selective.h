// The selective scan of Mamba under autograd (kernels/scan_selective.h).
#pragma once

#include "krait/nn/segments.h"
#include "krait/nn/tensor_rows.h"

namespace krait::nn {

struct ScanResult {
  Tensor y = {};      // as x
  Tensor state = {};  // after the last row of each segment, [S, …]
};

struct SelectiveScanInputs {
  Tensor x = {}, dt = {};  // [..., E]; dt as projected, before its bias and the softplus
  Tensor a = {};           // [E, N], negative: -exp(A_log)
  Tensor b = {}, c = {};   // [..., G*N]
  Tensor d = {};           // [E] or undefined, as are all that follow
  Tensor z = {};           // [..., E]: y is multiplied by silu(z)
  Tensor dt_bias = {};     // [E]
  Tensor state = {};       // [S, E, N], before each segment
  bool dt_softplus = true;
};

// The state is [S, E, N].
ScanResult selective_scan(const SelectiveScanInputs& in, const Segments& segments);

}  // namespace krait::nn
