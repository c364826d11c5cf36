#include "krait/kernels/scan_trapezoidal_backward.h"

#include <algorithm>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/saved_chunks.h"
#include "krait/kernels/scan_trapezoidal_backward_task.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_trapezoidal_backward.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/trapezoidal_heads_backward-inl.h"

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(trapezoidal_heads_backward);
HWY_EXPORT(trapezoidal_backward_scratch);
HWY_EXPORT(trapezoidal_rows_backward);

// Heads are cut into so many blocks (more with more groups: a block is of one group), each with a buffer of rows that
// heads share; sequences into so many parts, each with sums of the parameters' gradients. Neither depends on the
// threads.
constexpr std::int64_t kBlocks = 8, kParts = 4;
// Rows of the last stage that make a task, with sums of their own.
constexpr std::int64_t kStageRows = 64;

// Rows of a call's working memory: one buffer of the calling thread that grows to the largest request and is then
// reused, since pages of new memory cost more than what is done with them.
class CallRows {
 public:
  RowsOut take(std::int64_t rows, std::int64_t columns) {
    taken_.emplace_back(nullptr, rows, columns);
    floats_ += rows * columns;
    return taken_.back();
  }
  // Once all sizes are known: where each of them stands, in the order they were taken.
  std::span<RowsOut> place() {
    thread_local AlignedBuffer buffer;
    const auto bytes = static_cast<std::size_t>(floats_) * sizeof(float);
    if (buffer.size() < bytes) buffer = AlignedBuffer(bytes);
    float* at = buffer.as<float>().data();
    for (RowsOut& rows : taken_) {
      rows.data = at;
      at += rows.rows * rows.columns;
    }
    return taken_;
  }

 private:
  std::vector<RowsOut> taken_;
  std::int64_t floats_ = 0;
};

void check(const TrapezoidalScan& scan, const TrapezoidalInputs& in, RowsIn d_y, const TrapezoidalGradients& g) {
  trapezoidal_check(scan, in, d_y);
  trapezoidal_check(scan, {g.x, g.z, g.b, g.c, g.dt, g.a, g.trap, g.angle}, d_y);
  for (const RowsIn& rows : {RowsIn(g.x), RowsIn(g.z), RowsIn(g.b), RowsIn(g.c), RowsIn(g.dt), RowsIn(g.a),
                             RowsIn(g.trap), RowsIn(g.angle)}) {
    KRAIT_CHECK_EQ(rows.rows, d_y.rows);
  }
}

// Without rows the first state is the last one.
void pass_state_gradient(const TrapezoidalScan& scan, const TrapezoidalBackwardSequence& sequence) {
  if (sequence.initial_gradient == nullptr) return;
  const auto pass = [&](std::int64_t offset, std::int64_t count) {
    auto* const to = reinterpret_cast<float*>(sequence.initial_gradient + offset);
    if (sequence.final_gradient == nullptr) {
      std::fill_n(to, count, 0.0F);
    } else {
      std::copy_n(reinterpret_cast<const float*>(sequence.final_gradient + offset), count, to);
    }
  };
  pass(0, scan.heads * scan.states * scan.head_width);
  pass(scan.angle_offset, scan.heads * scan.angles);
  pass(scan.key_offset, scan.heads * scan.rank * scan.states);
  pass(scan.value_offset, scan.heads * scan.head_width);
}

// to[i] += what the parts have in `column` + i; to may be null.
void add_parameters(std::span<const RowsOut> parts, std::int64_t head, std::int64_t column, std::int64_t count,
                    float* to) {
  if (to == nullptr) return;
  for (std::int64_t i = 0; i < count; ++i) {
    double sum = 0.0;
    for (const RowsOut& part : parts) sum += part.row(head)[column + i];
    to[i] += static_cast<float>(sum);
  }
}

void add_head_parameters(const TrapezoidalScan& scan, std::span<const RowsOut> parts, const TrapezoidalGradients& g) {
  const TrapezoidalParameterColumns columns(scan);
  const std::int64_t keys = scan.rank * scan.states, width = scan.head_width, padded = trapezoidal_padded(width);
  const auto of_head = [](float* all, std::int64_t at) { return all == nullptr ? nullptr : all + at; };
  for (std::int64_t h = 0; h < scan.heads; ++h) {
    add_parameters(parts, h, columns.b_bias, keys, of_head(g.b_bias, h * keys));
    add_parameters(parts, h, columns.c_bias, keys, of_head(g.c_bias, h * keys));
    for (std::int64_t r = 0; r < scan.rank; ++r) {
      const std::int64_t at = (h * scan.rank + r) * width, column = r * padded;
      add_parameters(parts, h, columns.value_mix + column, width, of_head(g.value_mix, at));
      add_parameters(parts, h, columns.gate_mix + column, width, of_head(g.gate_mix, at));
      add_parameters(parts, h, columns.out_mix + column, width, of_head(g.out_mix, at));
    }
    add_parameters(parts, h, columns.norm, width, of_head(g.norm, h * width));
    if (g.d == nullptr) continue;
    double sum = 0.0;
    for (const RowsOut& part : parts) {
      for (std::int64_t p = 0; p < width; ++p) sum += part.row(h)[columns.d + p];
    }
    g.d[h] += static_cast<float>(sum);
  }
}

void add_column_sums(RowsIn rows, std::int64_t column, std::int64_t count, float* to) {
  if (to == nullptr) return;
  for (std::int64_t i = 0; i < count; ++i) {
    double sum = 0.0;
    for (std::int64_t row = 0; row < rows.rows; ++row) sum += rows.row(row)[column + i];
    to[i] += static_cast<float>(sum);
  }
}

}  // namespace

void trapezoidal_scan_backward(ThreadPool& pool, const TrapezoidalScan& scan, const TrapezoidalInputs& in,
                               const TrapezoidalSaved& saved, RowsIn d_y,
                               std::span<const TrapezoidalBackwardSequence> sequences,
                               const TrapezoidalGradients& gradients) {
  check(scan, in, d_y, gradients);
  std::vector<std::int64_t> first_chunks;
  std::vector<std::pair<std::int64_t, std::int64_t>> stage_rows;
  std::int64_t chunks = 0;
  for (const TrapezoidalBackwardSequence& sequence : sequences) {
    const std::int64_t end = sequence.first_row + sequence.rows;
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && end <= d_y.rows, "rows {} + {} of {}",
                sequence.first_row, sequence.rows, d_y.rows);
    first_chunks.push_back(chunks);
    chunks += saved_chunks(sequence.rows, scan.chunk_rows());
    for (std::int64_t row = sequence.first_row; row < end; row += kStageRows) {
      stage_rows.emplace_back(row, std::min(end, row + kStageRows));
    }
    if (sequence.rows == 0) pass_state_gradient(scan, sequence);
  }
  if (stage_rows.empty()) return;
  KRAIT_CHECK(saved.s != nullptr || scan.heads * scan.states * scan.head_width == 0, "{} chunks and no S saved",
              chunks);
  KRAIT_CHECK(saved.angle != nullptr || scan.heads * scan.angles == 0, "{} chunks and no theta saved", chunks);

  const std::int64_t group_heads = scan.heads / scan.groups;
  const std::int64_t group_blocks = std::max<std::int64_t>(1, kBlocks / scan.groups);
  const std::int64_t per_block = (group_heads + group_blocks - 1) / group_blocks;
  const std::int64_t blocks = (group_heads + per_block - 1) / per_block;  // of a group
  const auto count = static_cast<std::int64_t>(sequences.size());
  const std::int64_t parts = std::min(count, kParts);
  const std::int64_t heads = trapezoidal_padded(scan.heads), states = trapezoidal_padded(scan.states);
  CallRows memory;
  memory.take(d_y.rows, TrapezoidalColumns(scan).count);
  memory.take(d_y.rows, TrapezoidalSizeColumns(scan).count);
  memory.take(static_cast<std::int64_t>(stage_rows.size()), heads + 2 * states);
  for (std::int64_t i = 0; i < parts; ++i) memory.take(scan.heads, TrapezoidalParameterColumns(scan).count);
  for (std::int64_t i = 0; i < scan.groups * blocks; ++i) {
    memory.take(d_y.rows, TrapezoidalSharedColumns(scan).count);
  }
  const std::span<const RowsOut> placed = memory.place();
  const RowsOut prepared = placed[0], sizes = placed[1], sums = placed[2];
  const std::span<const RowsOut> parameters = placed.subspan(3, static_cast<std::size_t>(parts));
  const std::span<const RowsOut> shared = placed.subspan(3 + static_cast<std::size_t>(parts));
  for (const RowsOut& part : parameters) std::fill_n(part.data, part.rows * part.columns, 0.0F);

  trapezoidal_prepare_rows(pool, scan, in, prepared);
  const auto scratch = static_cast<std::size_t>(HWY_DYNAMIC_DISPATCH(trapezoidal_backward_scratch)(scan, per_block));
  pool.parallel_for(scan.groups * blocks * parts, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const std::int64_t part = i % parts, block = i / parts, group = block / blocks;
      const std::int64_t begin = count * part / parts, end = count * (part + 1) / parts;
      const std::int64_t head = group * group_heads + block % blocks * per_block;
      HWY_DYNAMIC_DISPATCH(trapezoidal_heads_backward)
      ({.scan = &scan,
        .in = &in,
        .gradients = &gradients,
        .prepared = prepared,
        .d_y = d_y,
        .saved = saved,
        .sequences = sequences.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
        .first_chunks = first_chunks.data() + begin,
        .first_head = head,
        .heads = std::min(per_block, (group + 1) * group_heads - head),
        .shared = shared[static_cast<std::size_t>(block)],
        .sizes = sizes,
        .parameters = parameters[static_cast<std::size_t>(part)]},
       thread_scratch(scratch).data());
    }
  });

  pool.parallel_for(sums.rows, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      float* const sum = sums.row(i);
      HWY_DYNAMIC_DISPATCH(trapezoidal_rows_backward)
      ({.scan = &scan,
        .in = &in,
        .gradients = &gradients,
        .prepared = prepared,
        .shared = shared.data(),
        .blocks = blocks,
        .sizes = sizes,
        .first = stage_rows[static_cast<std::size_t>(i)].first,
        .end = stage_rows[static_cast<std::size_t>(i)].second,
        .dt_bias = sum,
        .b_norm = sum + heads,
        .c_norm = sum + heads + states});
    }
  });
  add_head_parameters(scan, parameters, gradients);
  add_column_sums(sums, 0, scan.heads, gradients.dt_bias);
  add_column_sums(sums, heads, scan.states, gradients.b_norm);
  add_column_sums(sums, heads + states, scan.states, gradients.c_norm);
}

}  // namespace krait::kernels
#endif
