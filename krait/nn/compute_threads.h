// The threads that nn's kernels run on: one pool for the process, since autograd calls backward functions itself and
// has nowhere to hand a pool through. libtorch's own loops run on its own threads, never at the same time.
#pragma once

#include <mutex>

#include "krait/core/thread_pool.h"

namespace krait::nn {

// How many threads the pool has; 0: one for each core this process may run on, which is the default. Not while a
// kernel runs.
void set_compute_threads(int threads);
int compute_threads();

// The pool, for as long as this lives. Where several threads run models (Python), they take turns.
class ComputePool {
 public:
  ComputePool();
  operator ThreadPool&() const { return pool_; }

 private:
  std::unique_lock<std::mutex> turn_;
  ThreadPool& pool_;
};

}  // namespace krait::nn
