#include "krait/kernels/scan_delta_backward.h"

#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/saved_chunks.h"
#include "krait/kernels/scan_delta_backward_task.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_delta_backward.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/delta_chunks_backward-inl.h"

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(delta_rows_backward);
HWY_EXPORT(delta_backward_scratch);

struct Part {
  std::int64_t sequence, key_head;
  std::int64_t first_chunk;  // of the sequence, among the saved ones
};

}  // namespace

void delta_scan_backward(ThreadPool& pool, const DeltaScan& scan, const DeltaScanInputs& in, const float* saved,
                         RowsIn d_o, std::span<const DeltaBackwardSequence> sequences,
                         const DeltaGradients& gradients) {
  KRAIT_CHECK(scan.key_heads > 0 && scan.value_heads % scan.key_heads == 0, "{} value heads and {} of keys",
              scan.value_heads, scan.key_heads);
  KRAIT_CHECK(scan.chunk > 0, "chunks of {} rows", scan.chunk);
  for (const RowsIn& rows : {in.q, in.k, RowsIn(gradients.q), RowsIn(gradients.k)}) {
    KRAIT_CHECK_EQ(rows.columns, scan.key_heads * scan.key_width);
    KRAIT_CHECK_EQ(rows.rows, d_o.rows);
  }
  for (const RowsIn& rows : {in.dt, in.beta, RowsIn(gradients.dt), RowsIn(gradients.beta)}) {
    KRAIT_CHECK_EQ(rows.columns, scan.value_heads);
    KRAIT_CHECK_EQ(rows.rows, d_o.rows);
  }
  for (const RowsIn& rows : {in.v, d_o, RowsIn(gradients.v)}) {
    KRAIT_CHECK_EQ(rows.columns, scan.value_heads * scan.value_width);
    KRAIT_CHECK_EQ(rows.rows, d_o.rows);
  }
  std::vector<Part> parts;
  std::int64_t first_chunk = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const DeltaBackwardSequence& sequence = sequences[i];
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= d_o.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, d_o.rows);
    for (std::int64_t head = 0; head < scan.key_heads; ++head) {
      parts.push_back({static_cast<std::int64_t>(i), head, first_chunk});
    }
    first_chunk += saved_chunks(sequence.rows, scan.chunk);
  }
  const std::int64_t state_values = scan.value_heads * scan.key_width * scan.value_width;
  KRAIT_CHECK(saved != nullptr || first_chunk * state_values == 0, "{} chunks and no S saved", first_chunk);
  std::vector<double> da(sequences.size() * static_cast<std::size_t>(scan.value_heads));
  const auto scratch = static_cast<std::size_t>(HWY_DYNAMIC_DISPATCH(delta_backward_scratch)(scan));
  pool.parallel_for(static_cast<std::int64_t>(parts.size()), 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const Part& part = parts[static_cast<std::size_t>(i)];
      HWY_DYNAMIC_DISPATCH(delta_rows_backward)
      ({.scan = &scan,
        .in = &in,
        .sequence = &sequences[static_cast<std::size_t>(part.sequence)],
        .gradients = &gradients,
        .d_o = d_o,
        .saved = saved + part.first_chunk * state_values,
        .da = da.data() + part.sequence * scan.value_heads,
        .key_head = part.key_head},
       thread_scratch(scratch).data());
    }
  });
  if (gradients.a == nullptr) return;
  for (std::int64_t h = 0; h < scan.value_heads; ++h) {
    double sum = 0.0;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      sum += da[i * static_cast<std::size_t>(scan.value_heads) + static_cast<std::size_t>(h)];
    }
    gradients.a[h] += static_cast<float>(sum);
  }
}

}  // namespace krait::kernels
#endif
