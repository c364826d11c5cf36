// What this machine can do at most, measured: the denominators of every performance number krait prints. Measured
// with the pool it is given, in the same run as what it is compared with, since clocks and neighbours change.
#pragma once

#include <cstdint>

#include "krait/core/aligned_buffer.h"
#include "krait/core/thread_pool.h"

namespace krait::kernels {

// Memory far beyond the caches, 1 GiB of huge pages, which all threads read: the measure of what a kernel that streams
// could do. Passes over it can take turns with what they are compared with.
class PlainRead {
 public:
  explicit PlainRead(ThreadPool& pool);
  // Reads so many bytes (at most 1 GiB, whole MiB), those that follow the last pass.
  void pass(std::int64_t bytes = kBytes);

  static constexpr std::int64_t kBytes = std::int64_t{1} << 30;

 private:
  ThreadPool& pool_;
  AlignedBuffer buffer_;
  std::int64_t next_block_ = 0;
};

struct MachinePeak {
  double read_gb_per_s = 0.0;     // reading 1 GiB of huge pages with all threads, far beyond the caches
  double gemm_f32_gflops = 0.0;   // oneDNN tiles in cache on all threads at once; 2 operations a multiply-add
  double gemm_bf16_gflops = 0.0;  // 0 where this CPU has no bf16 product
  double gemm_int8_gops = 0.0;    // u8 x s8
};

// Takes about two seconds and 1 GiB. Each number is the median of several runs.
MachinePeak measure_machine_peak(ThreadPool& pool);

}  // namespace krait::kernels
