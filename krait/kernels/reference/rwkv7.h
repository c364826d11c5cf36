// Oracle: what RWKV-7 needs besides dense products, as plain loops in double. Layouts as in the kernels' headers.
#pragma once

#include <span>
#include <type_traits>

#include "krait/kernels/layer_norm.h"
#include "krait/kernels/reference/elementwise.h"
#include "krait/kernels/rwkv7_gates.h"
#include "krait/kernels/scan_rwkv7.h"

namespace krait::kernels::reference {

double sigmoid(double x);

template <class Real>
void layer_norm(const LayerNormOf<Real>& norm, std::type_identity_t<Rows<const Real>> x, RowsDouble y);

// From the raw w, a and k to the results of rwkv7_gates.
struct Rwkv7GateResults {
  RowsDouble w, a, k, kappa;
};
void rwkv7_gates(const Rwkv7Gates& gates, RowsIn w, RowsIn a, RowsIn k, const Rwkv7GateResults& results);

// One sequence.
void rwkv7_scan(const Rwkv7Scan& scan, const Rwkv7ScanInputs& in, std::span<double> state, RowsDouble y);

}  // namespace krait::kernels::reference
