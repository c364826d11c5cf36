#include <cstring>

#include "krait/core/check.h"
#include "krait/kernels/matmul.h"
#include "krait/kernels/row_grain.h"
#include "krait/kernels/widen.h"

namespace krait::kernels {

void embed(ThreadPool& pool, const WeightMatrix& table, const std::int32_t* ids, RowsOut y) {
  KRAIT_CHECK_EQ(table.columns, y.columns);
  const bool panels = table.layout == WeightLayout::kPanels;
  const std::int64_t panel_bytes = panels ? panel_shape(table.panels, table.rows, table.columns).panel_bytes : 0;
  const std::int64_t row_bytes = panels ? 0 : table.columns * weight_bytes(table.dtype);
  for (std::int64_t i = 0; i < y.rows; ++i) {
    KRAIT_CHECK(ids[i] >= 0 && ids[i] < table.rows, "id {} of {} rows", ids[i], table.rows);
  }
  pool.parallel_for(y.rows, rows_per_task(y.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      if (panels) {
        unpack_row(table.panels, table.data + ids[i] / kPanelOutputs * panel_bytes, ids[i] % kPanelOutputs,
                   table.columns, y.row(i));
        continue;
      }
      widen(table.dtype, table.data + ids[i] * row_bytes, table.columns, y.row(i));
    }
  });
}

}  // namespace krait::kernels
