// Oracle: the cross entropy of next tokens and its gradients as plain loops in double; rows of a table added by id.
// This is also how training runs in double.
#pragma once

#include <cstdint>
#include <span>

#include "krait/kernels/token_loss.h"

namespace krait::kernels::reference {

// Arguments as those of kernels::token_loss; losses may be null.
TokenLossSums token_loss(const TokenLossOf<double>& loss, Rows<const double> hidden,
                         std::span<const std::int32_t> targets, std::span<const double> row_weights, double* losses,
                         const TokenLossGradientsOf<double>& gradients);

// y[i] = table[ids[i]]; dtable[ids[i]] += dy[i].
void embed(Rows<const double> table, const std::int32_t* ids, Rows<double> y);
void embedding_backward(const std::int32_t* ids, Rows<const double> dy, Rows<double> dtable);

}  // namespace krait::kernels::reference
