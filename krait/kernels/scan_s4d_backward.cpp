#include "krait/kernels/scan_s4d_backward.h"

#include <algorithm>

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
  const float* border;  // of the sequence
  SequenceGradients state;
  RowsOut dx;
  float *dz, *dw, *dd;  // of the sequence alone, written: [M, 2, C] twice and [C]
};

}  // namespace
}  // namespace krait::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_s4d_backward.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/s4d_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// One chunk of rows of one vector of channels.
struct S4dChunk {
  alignas(64) float inputs[kS4dChunk][kLanes];
  alignas(64) float ups[kS4dChunk][kLanes];
  alignas(64) float dx[kS4dChunk][kLanes];
  alignas(64) float h[kS4dChunk + 1][kStatesTogether][2 * kLanes];  // before the first row, after each
};

// States [m, m + kCount): forward from the border, then back, with g carried from the chunk behind. Sums of a chunk are
// added up first and then to those of the sequence: two short sums round less than a long one.
template <std::int64_t kCount>
HWY_INLINE void chunk_backward(S4dChunk& chunk, std::int64_t rows, const ComplexF32 (&decay)[kCount],
                               const ComplexF32 (&weight)[kCount], ComplexF32 (&g)[kCount], ComplexF32 (&dz)[kCount],
                               ComplexF32 (&dw)[kCount]) {
  const F32 d;
  const auto held = [&](std::int64_t row, std::int64_t i) HWY_ATTR { return load_state(chunk.h[row][i], 0); };
  for (std::int64_t r = 0; r < rows; ++r) {
    const ComplexF32 input = {hn::Load(d, chunk.inputs[r]), hn::Zero(d)};
    for (std::int64_t i = 0; i < kCount; ++i) {
      store_state(multiply_add(decay[i], held(r, i), input), chunk.h[r + 1][i], 0);
    }
  }
  for (std::int64_t r = rows - 1; r >= 0; --r) {
    const VecF32 up = hn::Load(d, chunk.ups[r]);
    VecF32 sum = hn::Load(d, chunk.dx[r]);
    for (std::int64_t i = 0; i < kCount; ++i) {
      const ComplexF32 after = held(r + 1, i);
      dw[i] = {hn::MulAdd(up, after.re, dw[i].re), hn::NegMulAdd(up, after.im, dw[i].im)};
      g[i] = {hn::MulAdd(weight[i].re, up, g[i].re), hn::NegMulAdd(weight[i].im, up, g[i].im)};
      sum = hn::Add(sum, g[i].re);
      dz[i] = conjugate_multiply_add(held(r, i), g[i], dz[i]);
      g[i] = conjugate_times(decay[i], g[i]);
    }
    hn::Store(sum, d, chunk.dx[r]);
  }
}

// scratch: z, w, h of a border, g, dz and dw, [M, 2, lanes] each.
template <bool kWhole>
HWY_INLINE void backward_vector(const S4dBackward& task, const S4dVector<kWhole>& at, const SequenceRows& sequence,
                                float* scratch) {
  const F32 d;
  const S4dScan& scan = *task.scan;
  const std::int64_t size = scan.states * kState;
  float *z = scratch, *w = z + size, *h = w + size, *g = h + size, *dz = g + size, *dw = dz + size;
  at.gather(scan.z, z);
  at.gather(scan.w, w);
  at.gather(task.state.final_state, g);
  at.gather(nullptr, dz);
  at.gather(nullptr, dw);
  const VecF32 skip = scan.d == nullptr ? hn::Zero(d) : at.load_row(scan.d);
  VecF32 dd = hn::Zero(d);
  S4dChunk chunk;
  for (std::int64_t number = s4d_chunks(sequence.rows) - 1; number >= 0; --number) {
    const std::int64_t begin = number * kS4dChunk, rows = std::min(kS4dChunk, sequence.rows - begin);
    const std::int64_t first = sequence.first_row + begin;
    at.gather(task.border + number * 2 * scan.states * scan.channels, h);
    VecF32 chunk_dd = hn::Zero(d);
    for (std::int64_t r = 0; r < rows; ++r) {
      const VecF32 input = at.load_row(task.x.row(first + r)), up = at.load_row(task.dy.row(first + r));
      hn::Store(input, d, chunk.inputs[r]);
      hn::Store(up, d, chunk.ups[r]);
      hn::Store(hn::Mul(skip, up), d, chunk.dx[r]);
      chunk_dd = hn::MulAdd(input, up, chunk_dd);
    }
    dd = hn::Add(dd, chunk_dd);
    for_states(scan.states, [&](auto count, std::int64_t m) HWY_ATTR {
      const ComplexF32 zero = {hn::Zero(d), hn::Zero(d)};
      ComplexF32 decay[count], weight[count], carried[count], by_z[count], by_w[count];
      for (std::int64_t i = 0; i < count; ++i) {
        decay[i] = load_state(z, m + i);
        weight[i] = load_state(w, m + i);
        carried[i] = load_state(g, m + i);
        by_z[i] = by_w[i] = zero;
        store_state(load_state(h, m + i), chunk.h[0][i], 0);
      }
      chunk_backward<decltype(count)::value>(chunk, rows, decay, weight, carried, by_z, by_w);
      for (std::int64_t i = 0; i < count; ++i) {
        store_state(carried[i], g, m + i);
        store_state(load_state(dz, m + i) + by_z[i], dz, m + i);
        store_state(load_state(dw, m + i) + by_w[i], dw, m + i);
      }
    });
    for (std::int64_t r = 0; r < rows; ++r) at.store_row(hn::Load(d, chunk.dx[r]), task.dx.row(first + r));
  }
  at.scatter(dz, task.dz);
  at.scatter(dw, task.dw);
  at.store_row(dd, task.dd);
  if (task.state.initial_state != nullptr) at.scatter(g, task.state.initial_state);
}

void s4d_scan_backward_task(const S4dBackward& backward, const S4dTask& task, float* scratch) {
  for_vectors(task.channels, [&](auto whole, std::int64_t c, std::size_t count) HWY_ATTR {
    const S4dVector<decltype(whole)::value> at{backward.scan->channels, backward.scan->states, task.first_channel + c,
                                               count};
    backward_vector(backward, at, *task.sequence, scratch);
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
  const std::int64_t state_size = 2 * scan.states * scan.channels, partial_size = 2 * state_size + scan.channels;
  const auto count = static_cast<std::int64_t>(sequences.size());
  AlignedBuffer buffer(static_cast<std::size_t>(count * partial_size) * sizeof(float));
  const std::span<float> partial = buffer.as<float>();
  pool.parallel_for(static_cast<std::int64_t>(tasks.size()), 1, [&](std::int64_t first, std::int64_t last) {
    float* scratch = thread_scratch(static_cast<std::size_t>(6 * scan.states * 2 * kS4dChannels)).data();
    for (std::int64_t i = first; i < last; ++i) {
      const S4dTask& task = tasks[static_cast<std::size_t>(i)];
      float* own = partial.data() + task.index * partial_size;
      const S4dBackward backward{
          .scan = &scan,
          .x = x,
          .dy = dy,
          .border = borders + task.first_border * state_size,
          .state = states.empty() ? SequenceGradients() : states[static_cast<std::size_t>(task.index)],
          .dx = gradients.x,
          .dz = own,
          .dw = own + state_size,
          .dd = own + 2 * state_size};
      HWY_DYNAMIC_DISPATCH(s4d_scan_backward_task)(backward, task, scratch);
    }
  });
  const auto add = [&](float* to, std::int64_t offset, std::int64_t values) {
    for (std::int64_t i = 0; i < count && to != nullptr; ++i) {
      const float* from = partial.data() + i * partial_size + offset;
      for (std::int64_t j = 0; j < values; ++j) to[j] += from[j];
    }
  };
  add(gradients.z, 0, state_size);
  add(gradients.w, state_size, state_size);
  add(gradients.d, 2 * state_size, scan.channels);
}

}  // namespace krait::kernels
#endif
