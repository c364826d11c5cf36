// The scan of Mamba-3 under autograd, SISO and MIMO (kernels/scan_trapezoidal.h has the equations).
#pragma once

#include "krait/nn/segments.h"
#include "krait/nn/tensor_rows.h"

namespace krait::nn {

// Of S segments. The angle is kept within a turn in float. key and value are those of the last row: a row's input
// counts in part for the step after it.
struct TrapezoidalState {
  Tensor s = {};      // [S, H, P, N]
  Tensor angle = {};  // [S, H, A]
  Tensor key = {};    // [S, H, R, N], turned
  Tensor value = {};  // [S, H, P]
};

struct TrapezoidalScanInputs {
  Tensor x = {}, z = {};                               // [..., H*P]
  Tensor b = {}, c = {};                               // [..., R*G*N]
  Tensor dt = {}, a = {}, trap = {};                   // [..., H], as projected
  Tensor angle = {};                                   // [..., A], as projected; A at least 1 and at most N/2
  Tensor dt_bias = {};                                 // [H]
  Tensor b_norm = {}, c_norm = {};                     // [N]
  Tensor b_bias = {}, c_bias = {};                     // [H, R, N]
  Tensor d = {};                                       // [H]
  Tensor value_mix = {}, gate_mix = {}, out_mix = {};  // [H, R, P], or undefined: ones
  Tensor norm = {};                                    // [H*P], or undefined: no norm before the gate
  TrapezoidalState state = {};                         // before each segment; undefined, all of it: zeros
  std::int64_t groups = 1;
  bool halves = false;  // which entries make a pair: (i, i + N/2), else (2i, 2i + 1)
  double decay_floor = 1e-4;
  double epsilon = 1e-5;
};

struct TrapezoidalScanResult {
  Tensor y = {};  // as x
  TrapezoidalState state = {};
};

TrapezoidalScanResult trapezoidal_scan(const TrapezoidalScanInputs& in, const Segments& segments);

}  // namespace krait::nn
