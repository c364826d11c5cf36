// The scan of Mamba-2 under autograd (kernels/scan_ssd.h).
#pragma once

#include <limits>

#include "krait/nn/scan_selective.h"

namespace krait::nn {

struct SsdScanInputs {
  Tensor x = {};          // [..., H*P]
  Tensor dt = {};         // [..., H], as projected, before its bias, the softplus and the limits
  Tensor a = {};          // [H], negative: -exp(A_log)
  Tensor b = {}, c = {};  // [..., G*N]
  Tensor d = {};          // [H], or [H*P], or undefined, as are all that follow
  Tensor dt_bias = {};    // [H]
  Tensor state = {};      // [S, H, P, N], before each segment
  std::int64_t groups = 1;
  double dt_low = 0.0;
  double dt_high = std::numeric_limits<double>::infinity();
};

// The state is [S, H, P, N].
ScanResult ssd_scan(const SsdScanInputs& in, const Segments& segments);

}  // namespace krait::nn
