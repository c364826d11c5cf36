// What stands beside a sequence's rows in the backward pass of a scan: the gradients of its state after its last row
// and before its first, each laid out as the kernel's state in its real type.
#pragma once

namespace krait::kernels {

template <class Real>
struct SequenceGradientsOf {
  const Real* final_state = nullptr;  // read; null: zero
  Real* initial_state = nullptr;      // written; null: not wanted
};
using SequenceGradients = SequenceGradientsOf<float>;

}  // namespace krait::kernels
