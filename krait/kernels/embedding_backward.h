// Gradient of a table of embeddings (`embed`, matmul.h): dtable[ids[i]] += dy[i]. Rows with the same id are added in
// their order, whatever the number of threads.
#pragma once

#include <cstdint>

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

// dy [M, D], dtable [V, D], added to. Ids must be in [0, V): checked, InternalError.
void embedding_backward(ThreadPool& pool, const std::int32_t* ids, RowsIn dy, RowsOut dtable);

}  // namespace krait::kernels
