#include "krait/core/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace krait {
inline namespace core {
namespace {

thread_local int t_thread_index = 0;
thread_local bool t_inside_loop = false;

// About 20–50 µs: longer than the gap between two loops of a decode step, far shorter than a human pause.
constexpr int kSpins = 20000;

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

struct ThreadPool::Shared {
  // The loop in progress. Written by the starter before `generation` is released, read after it is acquired.
  Invoke invoke = nullptr;
  void* context = nullptr;
  std::int64_t count = 0;
  std::int64_t grain = 1;
  std::exception_ptr exception;
  std::mutex exception_mutex;

  alignas(64) std::atomic<std::int64_t> next{0};
  alignas(64) std::atomic<std::uint64_t> generation{0};
  alignas(64) std::atomic<int> busy{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;

  void work() {
    t_inside_loop = true;
    for (;;) {
      const std::int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= count) break;
      try {
        invoke(context, begin, std::min(begin + grain, count));
      } catch (...) {
        const std::lock_guard lock(exception_mutex);
        if (!exception) exception = std::current_exception();
      }
    }
    t_inside_loop = false;
  }

  void worker_main(int index) {
    t_thread_index = index;
    std::uint64_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpins && generation.load(std::memory_order_acquire) == seen; ++spin) pause_briefly();
      generation.wait(seen, std::memory_order_acquire);
      seen = generation.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_relaxed)) return;
      work();
      if (busy.fetch_sub(1, std::memory_order_acq_rel) == 1) busy.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads)
    : size_(threads > 0 ? threads : usable_cores()), shared_(std::make_unique<Shared>()) {
  for (int index = 1; index < size_; ++index) {
    shared_->workers.emplace_back([this, index] { shared_->worker_main(index); });
  }
}

ThreadPool::~ThreadPool() {
  shared_->stop.store(true, std::memory_order_relaxed);
  shared_->generation.fetch_add(1, std::memory_order_release);
  shared_->generation.notify_all();
  for (std::thread& worker : shared_->workers) worker.join();
}

int ThreadPool::thread_index() { return t_thread_index; }

void ThreadPool::run(std::int64_t count, std::int64_t grain, Invoke invoke, void* context) {
  grain = std::max<std::int64_t>(grain, 1);
  if (count <= 0) return;
  if (t_inside_loop || size_ == 1 || count <= grain) {
    for (std::int64_t begin = 0; begin < count; begin += grain) {
      invoke(context, begin, std::min(begin + grain, count));
    }
    return;
  }
  Shared& shared = *shared_;
  shared.invoke = invoke;
  shared.context = context;
  shared.count = count;
  shared.grain = grain;
  shared.exception = nullptr;
  shared.next.store(0, std::memory_order_relaxed);
  shared.busy.store(size_ - 1, std::memory_order_relaxed);
  shared.generation.fetch_add(1, std::memory_order_release);
  shared.generation.notify_all();
  shared.work();
  for (int spin = 0; spin < kSpins && shared.busy.load(std::memory_order_acquire) != 0; ++spin) pause_briefly();
  for (int left = shared.busy.load(std::memory_order_acquire); left != 0;
       left = shared.busy.load(std::memory_order_acquire)) {
    shared.busy.wait(left, std::memory_order_acquire);
  }
  if (shared.exception) std::rethrow_exception(shared.exception);
}

}  // namespace core
}  // namespace krait
