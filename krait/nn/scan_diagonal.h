// The diagonal scan over complex states of S5 and the LRU under autograd (kernels/scan_diagonal.h).
//   h[t] = a o h[t-1] + u[t]
// N complex numbers stand as their N real parts and then their N imaginary parts.
#pragma once

#include "krait/nn/segments.h"
#include "krait/nn/tensor_rows.h"

namespace krait::nn {

struct DiagonalScanResult {
  Tensor h = {};      // as u
  Tensor state = {};  // [S, 2 N]: h of each segment's last row
};

// u [..., 2 N]; a [2 N], or as u: one of each row; state [S, 2 N], before each segment, undefined: zeros.
DiagonalScanResult diagonal_scan(const Tensor& u, const Tensor& a, const Segments& segments, const Tensor& state = {});

}  // namespace krait::nn
