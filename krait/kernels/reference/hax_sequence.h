// HAX's attention over whole sequences in double, forward and backward, tokens as they were chosen. Also the path of
// double tensors in training. What chooses them is reference/hax_attention.h.
#pragma once

#include "krait/kernels/hax_sequence.h"
#include "krait/kernels/hax_sequence_backward.h"

namespace krait::kernels::reference {

void hax_sequence(const HaxReads<double>& in, std::span<const SequenceRows> sequences, Rows<double> y);

void hax_sequence_backward(const HaxReads<double>& in, std::span<const SequenceRows> sequences,
                           Rows<const double> y_gradient, const HaxSequenceGradients<double>& gradients);

}  // namespace krait::kernels::reference
