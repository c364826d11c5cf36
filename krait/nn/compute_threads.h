// The threads that nn's kernels run on: one pool for the process, since autograd calls backward functions itself and
// has nowhere to hand a pool through. libtorch's own loops run on its own threads, never at the same time.
#pragma once

#include <cstdint>
#include <mutex>
#include <source_location>
#include <string_view>
#include <vector>

#include "krait/core/thread_pool.h"

namespace krait::nn {

// How many threads the pool has; 0: one for each core this process may run on, which is the default. Not while a
// kernel runs.
void set_compute_threads(int threads);
int compute_threads();

// The pool, for as long as this lives. Where several threads run models (Python), they take turns.
class ComputePool {
 public:
  explicit ComputePool(std::source_location user = std::source_location::current());
  ~ComputePool();
  ComputePool(const ComputePool&) = delete;
  ComputePool& operator=(const ComputePool&) = delete;
  operator ThreadPool&() const { return pool_; }

 private:
  std::unique_lock<std::mutex> turn_;
  ThreadPool& pool_;
  const char* user_;
  double start_ = 0.0, processor_start_ = 0.0;
};

// Where the time of a step goes, for measurements: what each source file held the pool for. Off at first, when a turn
// costs nothing more than a look at a flag.
struct ComputeTime {
  std::string_view file;  // "scan_ssd.cpp"
  double seconds = 0.0;
  double processor_seconds = 0.0;  // of the whole process
  std::int64_t turns = 0;
};
// Begins anew from zero, or stops. Not while a kernel runs.
void record_compute_times(bool wanted);
std::vector<ComputeTime> compute_times();

}  // namespace krait::nn
