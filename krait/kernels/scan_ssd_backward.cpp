#include "krait/kernels/scan_ssd_backward.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_ssd_backward.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/ssd_backward-inl.h"

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(ssd_backward_matrices);
HWY_EXPORT(ssd_backward_task);
HWY_EXPORT(ssd_backward_scratch_floats);
HWY_EXPORT(ssd_backward_shared);

// Heads of a group that a task walks through, chunk by chunk: they add up what they give to dB and dC in one place.
// More of them take less memory for it, fewer make more tasks.
constexpr std::int64_t kTaskHeads = 6;

// A chunk of a sequence.
struct ChunkRows {
  std::int64_t first_row, rows;
};

void check_shapes(const SsdScan& scan, const SsdScanInputs& in, RowsIn dy, const SsdScanGradients& gradients) {
  KRAIT_CHECK(scan.groups > 0 && scan.heads % scan.groups == 0, "{} heads in {} groups", scan.heads, scan.groups);
  KRAIT_CHECK(scan.chunk > 0, "chunk {}", scan.chunk);
  for (const RowsIn& rows : {in.x, dy, RowsIn(gradients.x)}) {
    KRAIT_CHECK_EQ(rows.columns, scan.heads * scan.head_width);
  }
  for (const RowsIn& rows : {in.dt, RowsIn(gradients.dt)}) KRAIT_CHECK_EQ(rows.columns, scan.heads);
  for (const RowsIn& rows : {in.b, in.c, RowsIn(gradients.b), RowsIn(gradients.c)}) {
    KRAIT_CHECK_EQ(rows.columns, scan.groups * scan.states);
  }
}

}  // namespace

void ssd_scan_backward(ThreadPool& pool, const SsdScan& scan, const SsdScanInputs& in,
                       std::span<const SequenceRows> sequences, const float* borders, RowsIn dy,
                       std::span<const SequenceGradients> states, const SsdScanGradients& gradients) {
  check_shapes(scan, in, dy, gradients);
  KRAIT_CHECK(states.empty() || states.size() == sequences.size(), "states of {} sequences for {}", states.size(),
              sequences.size());
  std::vector<ChunkRows> chunks;
  std::vector<std::int64_t> first_chunk;  // of each sequence
  std::int64_t longest = 0;
  for (const SequenceRows& sequence : sequences) {
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= dy.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, dy.rows);
    first_chunk.push_back(static_cast<std::int64_t>(chunks.size()));
    for (std::int64_t done = 0; done < sequence.rows; done += scan.chunk) {
      chunks.push_back({sequence.first_row + done, std::min(scan.chunk, sequence.rows - done)});
      longest = std::max(longest, chunks.back().rows);
    }
  }
  const auto chunk_count = static_cast<std::int64_t>(chunks.size()),
             count = static_cast<std::int64_t>(sequences.size());
  const std::int64_t q = ssd_padded(longest), heads_per_group = scan.heads / scan.groups;
  const std::int64_t parts = (heads_per_group + kTaskHeads - 1) / kTaskHeads;  // of each group
  const std::int64_t d_size = scan.d_per_channel ? scan.heads * scan.head_width : scan.heads;
  // What heads share [G][chunks], its gradients [G][parts][chunks], and the sums of each sequence's parameters.
  const std::int64_t matrices = SsdChunkMatrices::floats(scan.states, q), sums = 2 * scan.heads + d_size;
  const std::int64_t shared_floats = scan.groups * chunk_count * matrices;
  thread_local AlignedBuffer buffer;
  const auto bytes = static_cast<std::size_t>(shared_floats * (1 + parts) + count * sums) * sizeof(float);
  if (buffer.size() < bytes) buffer = AlignedBuffer(bytes);
  float* const shared = buffer.as<float>().data();
  float* const to_shared = shared + shared_floats;
  float* const to_parameters = to_shared + shared_floats * parts;
  std::fill_n(to_parameters, count * sums, 0.0F);

  const auto each_group_and_chunk = [&](auto&& body) {
    pool.parallel_for(scan.groups * chunk_count, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        const std::int64_t group = i / chunk_count, chunk = i % chunk_count;
        const ChunkRows& rows = chunks[static_cast<std::size_t>(chunk)];
        const auto cut = [&](auto m) {
          return m.slice_rows(rows.first_row, rows.rows).slice_columns(group * scan.states, scan.states);
        };
        body(group, chunk, SsdChunkMatrices::at(shared + i * matrices, scan.states, q), cut);
      }
    });
  };
  each_group_and_chunk([&](std::int64_t, std::int64_t, const SsdChunkMatrices& to, auto&& cut) {
    HWY_DYNAMIC_DISPATCH(ssd_backward_matrices)(cut(in.b), cut(in.c), scan.states, q, to);
  });
  pool.parallel_for(count * scan.groups * parts, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const std::int64_t which = i / (scan.groups * parts), group = i / parts % scan.groups, part = i % parts;
      const auto sequence = static_cast<std::size_t>(which);
      const std::int64_t begin = part * heads_per_group / parts, end = (part + 1) * heads_per_group / parts;
      const std::int64_t chunk = first_chunk[sequence];
      float* const parameters = to_parameters + which * sums;
      const SsdBackwardTask task{.scan = &scan,
                                 .in = &in,
                                 .gradients = &gradients,
                                 .dy = dy,
                                 .first_row = sequences[sequence].first_row,
                                 .rows = sequences[sequence].rows,
                                 .first_head = group * heads_per_group + begin,
                                 .heads = end - begin,
                                 .borders = borders + chunk * scan.heads * scan.states * scan.head_width,
                                 .state = states.empty() ? SequenceGradients() : states[sequence],
                                 .q = q,
                                 .matrices = shared + (group * chunk_count + chunk) * matrices,
                                 .to_matrices = to_shared + ((group * parts + part) * chunk_count + chunk) * matrices,
                                 .a = parameters,
                                 .d = parameters + 2 * scan.heads,
                                 .dt_bias = parameters + scan.heads};
      const std::int64_t floats = HWY_DYNAMIC_DISPATCH(ssd_backward_scratch_floats)(scan, task.heads, q);
      HWY_DYNAMIC_DISPATCH(ssd_backward_task)(task, thread_scratch(static_cast<std::size_t>(floats)).data());
    }
  });
  each_group_and_chunk([&](std::int64_t group, std::int64_t chunk, const SsdChunkMatrices& of, auto&& cut) {
    float* const first = to_shared + (group * parts * chunk_count + chunk) * matrices;
    HWY_DYNAMIC_DISPATCH(ssd_backward_shared)
    (of, first, parts, chunk_count * matrices, scan.states, q, thread_scratch(static_cast<std::size_t>(q * q)).data(),
     cut(gradients.b), cut(gradients.c));
  });
  const auto add_sums = [&](float* to, std::int64_t offset, std::int64_t size) {
    for (std::int64_t sequence = 0; to != nullptr && sequence < count; ++sequence) {
      const float* from = to_parameters + sequence * sums + offset;
      for (std::int64_t i = 0; i < size; ++i) to[i] += from[i];
    }
  };
  add_sums(gradients.a, 0, scan.heads);
  add_sums(scan.dt_bias == nullptr ? nullptr : gradients.dt_bias, scan.heads, scan.heads);
  add_sums(scan.d == nullptr ? nullptr : gradients.d, 2 * scan.heads, d_size);
}

}  // namespace krait::kernels
#endif
