// `linear` for weights in panels (panels.h). One family of kernels for every number of rows: blocks of rows of x
// against a few panels, sums in registers over the whole of K in ascending order. So each element of y is one chain of
// additions whatever M, the block it falls in and the number of threads: a row has the same bits alone and in a batch.
#pragma once

#include "krait/core/thread_pool.h"
#include "krait/kernels/matmul.h"

namespace krait::kernels {

// Weights in panels of one format, with one format of activations.
void linear_panels(ThreadPool& pool, RowsIn x, std::span<const GroupedProduct> products);

}  // namespace krait::kernels
