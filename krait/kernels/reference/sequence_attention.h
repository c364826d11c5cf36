// Attention over whole sequences in double, forward and backward, the plain way: all scores of a row, then their
// softmax and what flows back through it. Also the path of double tensors in training.
#pragma once

#include "krait/kernels/sequence_attention.h"
#include "krait/kernels/sequence_attention_backward.h"

namespace krait::kernels::reference {

// lse may be empty.
void sequence_attention(const Attention& attention, std::span<const SequenceSource<double>> sources,
                        const AttentionSequences& sequences, Rows<double> out, Rows<double> lse);

void sequence_attention_backward(const Attention& attention, std::span<const SequenceSource<double>> sources,
                                 const AttentionSequences& sequences, Rows<const double> out_gradient,
                                 std::span<const SequenceAttentionGradients<double>> gradients);

}  // namespace krait::kernels::reference
