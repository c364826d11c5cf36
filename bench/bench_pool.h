// The pool of the kernels' micro-benchmarks, KRAIT_BENCH_THREADS sets its size; and how work on it is timed: by the
// clock, or one thread by its processor time, which other processes on the machine do not lengthen.
#pragma once

#include <chrono>
#include <cstdlib>
#include <ctime>

#include "krait/core/thread_pool.h"

namespace krait::bench {

inline ThreadPool& pool() {
  static ThreadPool one(std::getenv("KRAIT_BENCH_THREADS") != nullptr ? std::atoi(std::getenv("KRAIT_BENCH_THREADS"))
                                                                      : 0);
  return one;
}

template <class Work>
double seconds_of(Work&& work) {
  const auto now = [] {
    if (pool().size() > 1) {
      return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    }
    timespec time = {};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  };
  const double start = now();
  work();
  return now() - start;
}

}  // namespace krait::bench
