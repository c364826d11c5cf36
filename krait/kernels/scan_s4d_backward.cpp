#include "krait/kernels/scan_s4d_backward.h"

#include <algorithm>
#include <span>

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/scan_s4d_task.h"
#include "krait/kernels/simd/highway_config.h"

// Shared by all targets; this file is compiled once for each.
#ifndef KRAIT_KERNELS_SCAN_S4D_BACKWARD_CPP_
#define KRAIT_KERNELS_SCAN_S4D_BACKWARD_CPP_
namespace krait::kernels {
namespace {

struct S4dBackward {
  const S4dScan* scan;
  RowsIn x, dy;
  const float* borders;                       // of the task's sequences, as the next two
  std::span<const SequenceGradients> states;  // or none
  float* partial;                             // [sequences, S4dPartial::size], written
  RowsOut dx;
};

// Of a sequence alone: the gradients by z and w, [M, 2, C] each, and by D, [C].
struct S4dPartial {
  explicit S4dPartial(const S4dScan& scan) : state(2 * scan.states * scan.channels), size(2 * state + scan.channels) {}
  std::int64_t state, size;  // floats
  std::int64_t z() const { return 0; }
  std::int64_t w() const { return state; }
  std::int64_t d() const { return 2 * state; }
};

}  // namespace
}  // namespace krait::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_s4d_backward.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/s4d_chunk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

template <bool kWhole>
HWY_INLINE void backward_sequence(const S4dBackward& task, const S4dVector<kWhole>& at, const SequenceRows& sequence,
                                  const float* border, const SequenceGradients& state, float* partial,
                                  const S4dScratch& scratch, S4dChunk& chunk) {
  const F32 d;
  const S4dScan& scan = *task.scan;
  at.gather(state.final_state, scratch.g);
  for (std::int64_t m = 0; m < scan.states; ++m) store_state(conjugate(load_state(scratch.g, m)), scratch.g, m);
  for (float* sum : {scratch.dw, scratch.dz_by_w, scratch.dz}) at.gather(nullptr, sum);
  for (auto& row : chunk.correlation) hn::Store(hn::Zero(d), d, row);
  const VecF32 skip = scan.d == nullptr ? hn::Zero(d) : at.load_row(scan.d);
  VecF32 dd = hn::Zero(d);
  for (std::int64_t number = s4d_chunks(sequence.rows) - 1; number >= 0; --number) {
    const std::int64_t begin = number * kS4dChunk, rows = std::min(kS4dChunk, sequence.rows - begin);
    const std::int64_t first = sequence.first_row + begin;
    at.gather(border + number * 2 * scan.states * scan.channels, scratch.h);
    chunk.load(at, task.x, task.dy, first, rows, skip, dd);
    add_correlation(chunk.kernel, chunk.ups, rows, chunk.dx);
    add_correlation(chunk.inputs, chunk.ups, rows, chunk.correlation);
    for_states<kSumsTogether>(scan.states, [&](auto count, std::int64_t m)
                                               HWY_ATTR { scratch.add_chunk<decltype(count)::value>(chunk, rows, m); });
    for (std::int64_t r = 0; r < rows; ++r) at.store_row(hn::Load(d, chunk.dx[r]), task.dx.row(first + r));
  }
  scratch.finish(scan.states, std::min(kS4dChunk, sequence.rows), chunk);
  const S4dPartial parts(scan);
  at.scatter(scratch.dz, partial + parts.z());
  at.scatter(scratch.dw, partial + parts.w());
  at.store_row(dd, partial + parts.d());
  if (state.initial_state != nullptr) at.scatter(scratch.g, state.initial_state);
}

void s4d_scan_backward_task(const S4dBackward& backward, const S4dTask& task, float* buffer) {
  const S4dScan& scan = *backward.scan;
  const std::int64_t partial_size = S4dPartial(scan).size;
  std::int64_t longest = 0;
  for (const SequenceRows& sequence : task.sequences) longest = std::max(longest, std::min(kS4dChunk, sequence.rows));
  for_vectors(task.channels, [&](auto whole, std::int64_t c, std::size_t count) HWY_ATTR {
    const S4dVector<decltype(whole)::value> at{scan.channels, scan.states, task.first_channel + c, count};
    const S4dScratch scratch(buffer, scan.states);
    S4dChunk chunk;
    at.gather(scan.z, scratch.z);
    at.gather(scan.w, scratch.w);
    scratch.fill_powers(scan.states, longest, chunk);
    const float* border = backward.borders;
    for (std::size_t i = 0; i < task.sequences.size(); ++i) {
      const SequenceRows& sequence = task.sequences[i];
      backward_sequence(backward, at, sequence, border,
                        backward.states.empty() ? SequenceGradients() : backward.states[i],
                        backward.partial + static_cast<std::int64_t>(i) * partial_size, scratch, chunk);
      border += s4d_chunks(sequence.rows) * 2 * scan.states * scan.channels;
    }
  });
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "krait/kernels/scratch.h"

namespace krait::kernels {
namespace {

HWY_EXPORT(s4d_scan_backward_task);

}  // namespace

void s4d_scan_backward(ThreadPool& pool, const S4dScan& scan, RowsIn x, std::span<const SequenceRows> sequences,
                       const float* borders, RowsIn dy, std::span<const SequenceGradients> states,
                       const S4dScanGradients& gradients) {
  KRAIT_CHECK_EQ(x.columns, scan.channels);
  KRAIT_CHECK_EQ(dy.columns, scan.channels);
  KRAIT_CHECK_EQ(gradients.x.columns, scan.channels);
  KRAIT_CHECK(states.empty() || states.size() == sequences.size(), "{} states' gradients for {} sequences",
              states.size(), sequences.size());
  const std::vector<S4dTask> tasks = s4d_tasks(scan, sequences, x.rows);
  const S4dPartial parts(scan);
  const auto count = static_cast<std::int64_t>(sequences.size());
  AlignedBuffer buffer(static_cast<std::size_t>(count * parts.size) * sizeof(float));
  const std::span<float> partial = buffer.as<float>();
  pool.parallel_for(static_cast<std::int64_t>(tasks.size()), 1, [&](std::int64_t first, std::int64_t last) {
    float* scratch = thread_scratch(static_cast<std::size_t>((7 + kS4dChunk) * scan.states * 2 * kS4dChannels)).data();
    for (std::int64_t i = first; i < last; ++i) {
      const S4dTask& task = tasks[static_cast<std::size_t>(i)];
      const auto index = static_cast<std::size_t>(task.index);
      const S4dBackward backward{.scan = &scan,
                                 .x = x,
                                 .dy = dy,
                                 .borders = borders + task.first_border * parts.state,
                                 .states = states.empty() ? states : states.subspan(index, task.sequences.size()),
                                 .partial = partial.data() + task.index * parts.size,
                                 .dx = gradients.x};
      HWY_DYNAMIC_DISPATCH(s4d_scan_backward_task)(backward, task, scratch);
    }
  });
  const auto add = [&](float* to, std::int64_t offset, std::int64_t values) {
    for (std::int64_t i = 0; i < count && to != nullptr; ++i) {
      const float* from = partial.data() + i * parts.size + offset;
      for (std::int64_t j = 0; j < values; ++j) to[j] += from[j];
    }
  };
  add(gradients.z, parts.z(), parts.state);
  add(gradients.w, parts.w(), parts.state);
  add(gradients.d, parts.d(), scan.channels);
}

}  // namespace krait::kernels
#endif
