#include "krait/kernels/scan_ssd.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/simd/highway_config.h"

// Shared by all targets; this file is compiled once for each.
#ifndef KRAIT_KERNELS_SCAN_SSD_CPP_
#define KRAIT_KERNELS_SCAN_SSD_CPP_
namespace krait::kernels {
namespace {

// One head of one sequence.
struct SsdTask {
  const SsdScan* scan;
  RowsIn x, dt, b, c;
  RowsOut y;
  std::int64_t first_row, rows;
  std::int64_t head;
  float* state;     // [N, P] of this head
  const float* cb;  // C B^T of the sequence's chunks, [chunks][Q][Q], of this head's group; not read for one row
};

}  // namespace
}  // namespace krait::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/scan_ssd.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/exp-inl.h"
#include "krait/kernels/simd/gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// dt[i] = clamp(softplus(raw[i * stride] + bias), low, high) for a column of the raw matrix.
void ssd_time_steps(const float* raw, std::int64_t stride, std::int64_t rows, float bias, float low, float high,
                    float* dt) {
  const F32 d;
  HWY_ALIGN float lanes[kLanes];
  for (std::int64_t i = 0; i < rows; i += static_cast<std::int64_t>(kLanes)) {
    const std::int64_t count = std::min<std::int64_t>(static_cast<std::int64_t>(kLanes), rows - i);
    for (std::int64_t j = 0; j < static_cast<std::int64_t>(kLanes); ++j) {
      lanes[j] = raw[(i + std::min(j, count - 1)) * stride] + bias;
    }
    const VecF32 v = softplus_f32(hn::Load(d, lanes));
    hn::Store(at_most(hn::Set(d, high), at_least(hn::Set(d, low), v)), d, lanes);
    std::copy_n(lanes, count, dt + i);
  }
}

// One row: the state is read and written once, and y gathers C S on the way.
void ssd_step(const SsdTask& task) {
  const F32 d;
  const SsdScan& scan = *task.scan;
  const auto lanes = static_cast<std::int64_t>(kLanes);
  const std::int64_t p_count = scan.head_width;
  const std::int64_t row = task.first_row;
  const std::int64_t group = task.head / (scan.heads / scan.groups);
  const float bias = scan.dt_bias == nullptr ? 0.0F : scan.dt_bias[task.head];
  float dt = 0.0F;
  ssd_time_steps(task.dt.row(row) + task.head, task.dt.stride, 1, bias, scan.dt_low, scan.dt_high, &dt);
  const VecF32 decay = exp_f32(hn::Set(d, dt * scan.a[task.head]));
  const float* b = task.b.row(row) + group * scan.states;
  const float* c = task.c.row(row) + group * scan.states;
  const float* x = task.x.row(row) + task.head * p_count;
  float* y = task.y.row(row) + task.head * p_count;
  const float* d_channels =
      scan.d == nullptr ? nullptr : scan.d + (scan.d_per_channel ? task.head * p_count : task.head);

  std::int64_t p = 0;
  // Four vectors at a time: P = 64 in one pass with AVX-512, and enough sums in flight everywhere.
  for (; p + 4 * lanes <= p_count; p += 4 * lanes) {
    VecF32 dt_x[4], sum[4];
    for (std::int64_t j = 0; j < 4; ++j) {
      dt_x[j] = hn::Mul(hn::Set(d, dt), hn::LoadU(d, x + p + j * lanes));
      sum[j] = hn::Zero(d);
    }
    for (std::int64_t n = 0; n < scan.states; ++n) {
      float* s = task.state + n * p_count + p;
      const VecF32 bn = hn::Set(d, b[n]), cn = hn::Set(d, c[n]);
      for (std::int64_t j = 0; j < 4; ++j) {
        const VecF32 next = hn::MulAdd(bn, dt_x[j], hn::Mul(decay, hn::LoadU(d, s + j * lanes)));
        hn::StoreU(next, d, s + j * lanes);
        sum[j] = hn::MulAdd(cn, next, sum[j]);
      }
    }
    for (std::int64_t j = 0; j < 4; ++j) hn::StoreU(sum[j], d, y + p + j * lanes);
  }
  for (; p < p_count; p += lanes) {
    const std::size_t count = static_cast<std::size_t>(std::min(lanes, p_count - p));
    const bool whole = count == kLanes;
    const VecF32 xv = whole ? hn::LoadU(d, x + p) : load_part(x + p, count);
    const VecF32 dt_x = hn::Mul(hn::Set(d, dt), xv);
    VecF32 sum = hn::Zero(d);
    for (std::int64_t n = 0; n < scan.states; ++n) {
      float* s = task.state + n * p_count + p;
      const VecF32 old = whole ? hn::LoadU(d, s) : load_part(s, count);
      const VecF32 next = hn::MulAdd(hn::Set(d, b[n]), dt_x, hn::Mul(decay, old));
      store_part(next, s, count);
      sum = hn::MulAdd(hn::Set(d, c[n]), next, sum);
    }
    store_part(sum, y + p, count);
  }
  if (d_channels != nullptr) {
    for (std::int64_t i = 0; i < p_count; ++i) y[i] += d_channels[scan.d_per_channel ? i : 0] * x[i];
  }
}

// to = factor * from.
HWY_INLINE void scale_row(VecF32 factor, const float* from, float* to, std::int64_t count) {
  const auto lanes = static_cast<std::int64_t>(kLanes);
  std::int64_t n = 0;
  for (; n + lanes <= count; n += lanes) hn::StoreU(hn::Mul(factor, hn::LoadU(F32(), from + n)), F32(), to + n);
  if (n < count) {
    const auto rest = static_cast<std::size_t>(count - n);
    store_part(hn::Mul(factor, load_part(from + n, rest)), to + n, rest);
  }
}

// y = D x of one row of one head.
HWY_INLINE void skip_connection(const float* d_values, bool per_channel, const float* x, float* y, std::int64_t count) {
  if (!per_channel) {
    scale_row(hn::Set(F32(), d_values[0]), x, y, count);
    return;
  }
  const auto lanes = static_cast<std::int64_t>(kLanes);
  std::int64_t p = 0;
  for (; p + lanes <= count; p += lanes) {
    hn::StoreU(hn::Mul(hn::LoadU(F32(), d_values + p), hn::LoadU(F32(), x + p)), F32(), y + p);
  }
  for (; p < count; ++p) y[p] = d_values[p] * x[p];
}

// cb[i, j] = C_i . B_j for j <= i of one chunk (the rest of the block is written too, and ignored).
// `transposed` [N, Q] is scratch.
void ssd_chunk_products(RowsIn b, RowsIn c, std::int64_t states, float* transposed, float* cb, std::int64_t q) {
  const std::int64_t rows = b.rows;
  for (std::int64_t j = 0; j < rows; ++j) {
    for (std::int64_t n = 0; n < states; ++n) transposed[n * q + j] = b.row(j)[n];
  }
  // Blocks of rows, so that most of the upper triangle is never computed.
  constexpr std::int64_t kBlock = 2 * kGemmRows;
  for (std::int64_t i = 0; i < rows; i += kBlock) {
    const std::int64_t block = std::min(kBlock, rows - i);
    gemm_small(block, std::min(i + block, rows),
               {.k = states,
                .a = c.row(i),
                .a_row = c.stride,
                .a_column = 1,
                .b = transposed,
                .ldb = q,
                .c = cb + i * q,
                .ldc = q,
                .scale = 0.0F});
  }
}

// Several rows, chunk by chunk. Scratch: dt [Q], cum [Q] (double), weights [Q, Q], scaled C and B [Q, N] each.
void ssd_chunks(const SsdTask& task, float* scratch) {
  const F32 d;
  const SsdScan& scan = *task.scan;
  const std::int64_t q = scan.chunk, states = scan.states, p_count = scan.head_width;
  const auto lanes = static_cast<std::int64_t>(kLanes);
  const std::int64_t group = task.head / (scan.heads / scan.groups);
  const float bias = scan.dt_bias == nullptr ? 0.0F : scan.dt_bias[task.head];
  const double a = scan.a[task.head];
  // cum in double: it is a running sum whose differences are exponentiated.
  double* cum = reinterpret_cast<double*>(scratch);
  float* dt = scratch + 2 * q;
  float* relative = dt + q + kLanes;         // cum_i - cum_j of one row i
  float* weights = relative + q + kLanes;    // [Q, Q]
  float* scaled = weights + q * q + kLanes;  // [Q, N]
  const float* x = task.x.row(task.first_row) + task.head * p_count;
  float* y = task.y.row(task.first_row) + task.head * p_count;
  const float* d_channels =
      scan.d == nullptr ? nullptr : scan.d + (scan.d_per_channel ? task.head * p_count : task.head);

  for (std::int64_t done = 0, chunk = 0; done < task.rows; done += q, ++chunk) {
    const std::int64_t rows = std::min(q, task.rows - done);
    const std::int64_t first = task.first_row + done;
    const float* xc = x + done * task.x.stride;
    float* yc = y + done * task.y.stride;
    ssd_time_steps(task.dt.row(first) + task.head, task.dt.stride, rows, bias, scan.dt_low, scan.dt_high, dt);
    double total = 0.0;
    for (std::int64_t i = 0; i < rows; ++i) cum[i] = total += dt[i] * a;

    // weights[i, j] = (C_i . B_j) exp(cum_i - cum_j) dt_j for j <= i. The exponent is masked, not the exponential:
    // above the diagonal the difference is positive and could overflow.
    const float* cb = task.cb + chunk * q * q;
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j <= i; ++j) relative[j] = static_cast<float>(cum[i] - cum[j]);
      // Whole vectors: what runs past column i is padding or the next row, and is written after this.
      for (std::int64_t j = 0; j <= i; j += lanes) {
        const VecF32 w = hn::Mul(hn::LoadU(d, cb + i * q + j), exp_f32(hn::LoadU(d, relative + j)));
        hn::StoreU(hn::Mul(w, hn::LoadU(d, dt + j)), d, weights + i * q + j);
      }
      std::fill(weights + i * q + i + 1, weights + i * q + std::min(q, (i / kGemmRows + 1) * kGemmRows), 0.0F);
    }

    // Y = D x; without D the first product below writes instead of adding.
    for (std::int64_t i = 0; i < rows && d_channels != nullptr; ++i) {
      skip_connection(d_channels, scan.d_per_channel, xc + i * task.x.stride, yc + i * task.y.stride, p_count);
    }
    // Y += weights X, the triangle only: rows i … i + block of the weights end at column i + block.
    for (std::int64_t i = 0; i < rows; i += kGemmRows) {
      const std::int64_t block = std::min(kGemmRows, rows - i);
      gemm_small(block, p_count,
                 {.k = i + block,
                  .a = weights + i * q,
                  .a_row = q,
                  .a_column = 1,
                  .b = xc,
                  .ldb = task.x.stride,
                  .c = yc + i * task.y.stride,
                  .ldc = task.y.stride,
                  .scale = d_channels == nullptr ? 0.0F : 1.0F});
    }
    // Y += (exp(cum_i) C_i) S.
    for (std::int64_t i = 0; i < rows; ++i) {
      const VecF32 factor = exp_f32(hn::Set(d, static_cast<float>(cum[i])));
      const float* c = task.c.row(first + i) + group * states;
      scale_row(factor, c, scaled + i * states, states);
    }
    gemm_small(rows, p_count,
               {.k = states,
                .a = scaled,
                .a_row = states,
                .a_column = 1,
                .b = task.state,
                .ldb = p_count,
                .c = yc,
                .ldc = task.y.stride,
                .scale = 1.0F});
    // S = exp(cum_Q) S + sum_j (exp(cum_Q - cum_j) dt_j B_j) x_j^T.
    for (std::int64_t j = 0; j < rows; ++j) {
      const VecF32 decay = exp_f32(hn::Set(d, static_cast<float>(total - cum[j])));
      const VecF32 factor = hn::Mul(decay, hn::Set(d, dt[j]));
      const float* b = task.b.row(first + j) + group * states;
      scale_row(factor, b, scaled + j * states, states);
    }
    const float carried = hn::GetLane(exp_f32(hn::Set(d, static_cast<float>(total))));
    gemm_small(states, p_count,
               {.k = rows,
                .a = scaled,
                .a_row = 1,
                .a_column = states,
                .b = xc,
                .ldb = task.x.stride,
                .c = task.state,
                .ldc = p_count,
                .scale = carried});
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(ssd_step);
HWY_EXPORT(ssd_chunk_products);
HWY_EXPORT(ssd_chunks);

constexpr std::int64_t kPadding = 16;  // lanes of the widest target

// A chunk of a sequence of several rows, whose C B^T is shared by the heads of each group.
struct Chunk {
  std::int64_t first_row, rows;
};

}  // namespace

void ssd_scan(ThreadPool& pool, const SsdScan& scan, RowsIn x, RowsIn dt, RowsIn b, RowsIn c,
              std::span<const SequenceRows> sequences, RowsOut y) {
  KRAIT_CHECK(scan.groups > 0 && scan.heads % scan.groups == 0, "{} heads in {} groups", scan.heads, scan.groups);
  KRAIT_CHECK(scan.chunk > 0, "chunk {}", scan.chunk);
  KRAIT_CHECK_EQ(x.columns, scan.heads * scan.head_width);
  KRAIT_CHECK_EQ(y.columns, scan.heads * scan.head_width);
  KRAIT_CHECK_EQ(dt.columns, scan.heads);
  KRAIT_CHECK_EQ(b.columns, scan.groups * scan.states);
  KRAIT_CHECK_EQ(c.columns, scan.groups * scan.states);
  const std::int64_t q = scan.chunk;
  std::vector<Chunk> chunks;
  std::vector<std::int64_t> first_chunk;  // of each sequence
  for (const SequenceRows& sequence : sequences) {
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= y.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, y.rows);
    first_chunk.push_back(static_cast<std::int64_t>(chunks.size()));
    if (sequence.rows < 2) continue;
    for (std::int64_t done = 0; done < sequence.rows; done += q) {
      chunks.push_back({sequence.first_row + done, std::min(q, sequence.rows - done)});
    }
  }
  // C B^T of every chunk, [group][chunk][Q][Q].
  const auto chunk_count = static_cast<std::int64_t>(chunks.size());
  thread_local AlignedBuffer products;
  const auto product_bytes = static_cast<std::size_t>(scan.groups * chunk_count * q * q + kPadding) * sizeof(float);
  if (products.size() < product_bytes) products = AlignedBuffer(product_bytes);
  float* const cb = products.as<float>().data();
  pool.parallel_for(chunk_count * scan.groups, 1, [&](std::int64_t first, std::int64_t last) {
    const std::span<float> transposed = thread_scratch(static_cast<std::size_t>(scan.states * q));
    for (std::int64_t i = first; i < last; ++i) {
      const Chunk& chunk = chunks[static_cast<std::size_t>(i % chunk_count)];
      const std::int64_t from = i / chunk_count * scan.states;
      HWY_DYNAMIC_DISPATCH(ssd_chunk_products)
      (b.slice_rows(chunk.first_row, chunk.rows).slice_columns(from, scan.states),
       c.slice_rows(chunk.first_row, chunk.rows).slice_columns(from, scan.states), scan.states, transposed.data(),
       cb + i * q * q, q);
    }
  });
  const auto tasks = static_cast<std::int64_t>(sequences.size()) * scan.heads;
  pool.parallel_for(tasks, 1, [&](std::int64_t first, std::int64_t last) {
    const std::span<float> scratch = thread_scratch(static_cast<std::size_t>(q * (4 + q + scan.states) + 4 * kPadding));
    for (std::int64_t i = first; i < last; ++i) {
      const auto index = static_cast<std::size_t>(i / scan.heads);
      const SequenceRows& sequence = sequences[index];
      if (sequence.rows == 0) continue;
      const std::int64_t head = i % scan.heads;
      const std::int64_t group = head / (scan.heads / scan.groups);
      const SsdTask task{.scan = &scan,
                         .x = x,
                         .dt = dt,
                         .b = b,
                         .c = c,
                         .y = y,
                         .first_row = sequence.first_row,
                         .rows = sequence.rows,
                         .head = head,
                         .state = sequence.state + head * scan.states * scan.head_width,
                         .cb = cb + (group * chunk_count + first_chunk[index]) * q * q};
      if (sequence.rows == 1) {
        HWY_DYNAMIC_DISPATCH(ssd_step)(task);
      } else {
        HWY_DYNAMIC_DISPATCH(ssd_chunks)(task, scratch.data());
      }
    }
  });
}

}  // namespace krait::kernels
#endif
