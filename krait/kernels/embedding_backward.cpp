#include "krait/kernels/embedding_backward.h"

#include <algorithm>

#include "krait/core/check.h"

namespace krait::kernels {

void embedding_backward(ThreadPool& pool, const std::int32_t* ids, RowsIn dy, RowsOut dtable) {
  KRAIT_CHECK_EQ(dy.columns, dtable.columns);
  for (std::int64_t i = 0; i < dy.rows; ++i) {
    KRAIT_CHECK(ids[i] >= 0 && ids[i] < dtable.rows, "id {} of {} rows", ids[i], dtable.rows);
  }
  // Each task has some columns of all rows: two rows of one id never meet in different tasks.
  constexpr std::int64_t kColumns = 64;
  pool.parallel_for(dy.columns, kColumns, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = 0; i < dy.rows; ++i) {
      const float* const from = dy.row(i);
      float* const to = dtable.row(ids[i]);
      for (std::int64_t c = begin; c < end; ++c) to[c] += from[c];
    }
  });
}

}  // namespace krait::kernels
