#include "krait/kernels/scan_s4d.h"

#include <algorithm>

#include "krait/core/check.h"
#include "krait/kernels/s4d_states.h"
#include "krait/kernels/scan_s4d_task.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_s4d.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/s4d_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Whose recurrences hide each other's latency.
inline constexpr std::int64_t kStatesTogether = 4;

// One vector of channels of a sequence, a chunk of rows at a time. scratch: z, w and h, [M, 2, lanes] each.
template <bool kWhole>
HWY_INLINE void scan_vector(const S4dScan& scan, const S4dVector<kWhole>& at, RowsIn x, const SequenceRows& sequence,
                            RowsOut y, float* border, float* scratch) {
  const F32 d;
  float* z = scratch;
  float* w = z + scan.states * kState;
  float* h = w + scan.states * kState;
  at.gather(scan.z, z);
  at.gather(scan.w, w);
  at.gather(sequence.state == nullptr ? nullptr : sequence.state_f32(), h);
  alignas(64) float inputs[kS4dChunk][kLanes], outputs[kS4dChunk][kLanes];
  for (std::int64_t begin = 0; begin < sequence.rows; begin += kS4dChunk) {
    const std::int64_t rows = std::min(kS4dChunk, sequence.rows - begin);
    const std::int64_t first = sequence.first_row + begin;
    if (border != nullptr) at.scatter(h, border + begin / kS4dChunk * 2 * scan.states * scan.channels);
    for (std::int64_t r = 0; r < rows; ++r) {
      const VecF32 input = at.load_row(x.row(first + r));
      hn::Store(input, d, inputs[r]);
      hn::Store(scan.d == nullptr ? hn::Zero(d) : hn::Mul(at.load_row(scan.d), input), d, outputs[r]);
    }
    for_states<kStatesTogether>(scan.states, [&](auto count, std::int64_t m) HWY_ATTR {
      ComplexF32 decay[count], weight[count], state[count];
      for (std::int64_t i = 0; i < count; ++i) {
        decay[i] = load_state(z, m + i);
        weight[i] = load_state(w, m + i);
        state[i] = load_state(h, m + i);
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        const ComplexF32 input = {hn::Load(d, inputs[r]), hn::Zero(d)};
        VecF32 sum = hn::Load(d, outputs[r]);
        for (std::int64_t i = 0; i < count; ++i) {
          state[i] = multiply_add(decay[i], state[i], input);
          sum = hn::MulAdd(weight[i].re, state[i].re, sum);
          sum = hn::NegMulAdd(weight[i].im, state[i].im, sum);
        }
        hn::Store(sum, d, outputs[r]);
      }
      for (std::int64_t i = 0; i < count; ++i) store_state(state[i], h, m + i);
    });
    for (std::int64_t r = 0; r < rows; ++r) at.store_row(hn::Load(d, outputs[r]), y.row(first + r));
  }
  if (sequence.state != nullptr) at.scatter(h, sequence.state_f32());
}

void s4d_scan_task(const S4dScan& scan, RowsIn x, const S4dTask& task, RowsOut y, float* border, float* scratch) {
  for_vectors(task.channels, [&](auto whole, std::int64_t c, std::size_t count) HWY_ATTR {
    const S4dVector<decltype(whole)::value> at{scan.channels, scan.states, task.first_channel + c, count};
    float* sequence_border = border;
    for (const SequenceRows& sequence : task.sequences) {
      scan_vector(scan, at, x, sequence, y, sequence_border, scratch);
      if (border != nullptr) sequence_border += s4d_chunks(sequence.rows) * 2 * scan.states * scan.channels;
    }
  });
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "krait/kernels/scratch.h"

namespace krait::kernels {
namespace {

HWY_EXPORT(s4d_scan_task);

}  // namespace

void s4d_scan_parameters(const S4dKernel& parameters, float* z, float* w) {
  KRAIT_CHECK_EQ(parameters.copies, 1);
  check_s4d(parameters, parameters.channels);
  S4dChannel channel;
  for (std::int64_t c = 0; c < parameters.channels; ++c) {
    prepare_s4d_channel(parameters, c, channel);
    for (std::int64_t m = 0; m < parameters.states; ++m) {
      const auto state = static_cast<std::size_t>(m);
      const std::int64_t real = 2 * m * parameters.channels + c, imaginary = real + parameters.channels;
      z[real] = static_cast<float>(channel.z[state].real());
      z[imaginary] = static_cast<float>(channel.z[state].imag());
      w[real] = static_cast<float>(2.0 * channel.weights[state].real());
      w[imaginary] = static_cast<float>(2.0 * channel.weights[state].imag());
    }
  }
}

void s4d_scan(ThreadPool& pool, const S4dScan& scan, RowsIn x, std::span<const SequenceRows> sequences, RowsOut y,
              float* borders) {
  KRAIT_CHECK_EQ(x.columns, scan.channels);
  KRAIT_CHECK_EQ(y.columns, scan.channels);
  const std::vector<S4dTask> tasks = s4d_tasks(scan, sequences, y.rows);
  pool.parallel_for(static_cast<std::int64_t>(tasks.size()), 1, [&](std::int64_t first, std::int64_t last) {
    float* scratch = thread_scratch(static_cast<std::size_t>(3 * scan.states * 2 * kS4dChannels)).data();
    for (std::int64_t i = first; i < last; ++i) {
      const S4dTask& task = tasks[static_cast<std::size_t>(i)];
      float* border = borders == nullptr ? nullptr : borders + task.first_border * 2 * scan.states * scan.channels;
      HWY_DYNAMIC_DISPATCH(s4d_scan_task)(scan, x, task, y, border, scratch);
    }
  });
}

}  // namespace krait::kernels
#endif
