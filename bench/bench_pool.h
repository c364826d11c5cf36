// The pool of the kernels' micro-benchmarks; KRAIT_BENCH_THREADS sets its size.
#pragma once

#include <cstdlib>

#include "krait/core/thread_pool.h"

namespace krait::bench {

inline ThreadPool& pool() {
  static ThreadPool one(std::getenv("KRAIT_BENCH_THREADS") != nullptr ? std::atoi(std::getenv("KRAIT_BENCH_THREADS"))
                                                                      : 0);
  return one;
}

}  // namespace krait::bench
