#include <cstring>

#include "krait/core/check.h"
#include "krait/kernels/matmul.h"
#include "krait/kernels/row_grain.h"
#include "krait/kernels/widen.h"

namespace krait::kernels {

void embed(ThreadPool& pool, const WeightMatrix& table, const std::int32_t* ids, RowsOut y) {
  KRAIT_CHECK_EQ(table.columns, y.columns);
  const std::int64_t row_bytes = table.columns * weight_bytes(table.dtype);
  for (std::int64_t i = 0; i < y.rows; ++i) {
    KRAIT_CHECK(ids[i] >= 0 && ids[i] < table.rows, "id {} of {} rows", ids[i], table.rows);
  }
  pool.parallel_for(y.rows, rows_per_task(y.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      widen(table.dtype, table.data + ids[i] * row_bytes, table.columns, y.row(i));
    }
  });
}

}  // namespace krait::kernels
