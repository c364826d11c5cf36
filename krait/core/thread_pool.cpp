#include "krait/core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "krait/core/cores.h"

namespace krait {
inline namespace core {
namespace {

thread_local int t_thread_index = 0;
thread_local bool t_inside_loop = false;

// Longer than the gap between two loops of a decode step, far shorter than a human pause. A pause instruction takes
// 10 to 140 cycles, so this is 10 to 150 µs (50 on the Xeon it was measured on).
constexpr int kSpins = 3000;

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int count_usable_cores() { return static_cast<int>(usable_cores().size()); }

}  // namespace

struct ThreadPool::Shared {
  int spins = 0;  // how often to look before sleeping; set before any worker starts

  // The loop in progress. Written by the starter before `generation` is released, read after it is acquired.
  Invoke invoke = nullptr;
  void* context = nullptr;
  std::int64_t count = 0;
  std::int64_t grain = 1;
  std::int64_t ranges = 0;
  std::exception_ptr exception;
  std::mutex exception_mutex;

  // Counts ranges, not indices: one more for each thread cannot overflow it.
  alignas(64) std::atomic<std::int64_t> next_range{0};
  alignas(64) std::atomic<std::uint64_t> generation{0};
  alignas(64) std::atomic<int> busy{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;

  // Here rather than in ThreadPool's destructor, so that it also runs when a thread cannot be started.
  ~Shared() {
    stop.store(true, std::memory_order_relaxed);
    generation.fetch_add(1, std::memory_order_release);
    generation.notify_all();
    for (std::thread& worker : workers) worker.join();
  }

  void work() {
    t_inside_loop = true;
    for (;;) {
      const std::int64_t range = next_range.fetch_add(1, std::memory_order_relaxed);
      if (range >= ranges) break;
      const std::int64_t begin = range * grain;
      try {
        invoke(context, begin, begin + std::min(grain, count - begin));
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
      for (int spin = 0; spin < spins && generation.load(std::memory_order_acquire) == seen; ++spin) pause_briefly();
      generation.wait(seen, std::memory_order_acquire);
      seen = generation.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_relaxed)) return;
      work();
      if (busy.fetch_sub(1, std::memory_order_acq_rel) == 1) busy.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads, std::span<const int> cores)
    : size_(threads > 0 ? threads : count_usable_cores()), shared_(std::make_unique<Shared>()) {
  // With more threads than cores a spinning thread keeps the one it waits for from running.
  shared_->spins = size_ <= (cores.empty() ? count_usable_cores() : static_cast<int>(cores.size())) ? kSpins : 0;
  for (int index = 1; index < size_; ++index) {
    shared_->workers.emplace_back([shared = shared_.get(), index, own = std::vector<int>(cores.begin(), cores.end())] {
      if (!own.empty()) keep_to(own);
      shared->worker_main(index);
    });
  }
}

ThreadPool::~ThreadPool() = default;

int ThreadPool::thread_index() { return t_thread_index; }

void ThreadPool::run(std::int64_t count, std::int64_t grain, Invoke invoke, void* context) {
  if (count <= 0) return;
  grain = std::clamp<std::int64_t>(grain, 1, count);
  if (t_inside_loop || size_ == 1 || count == grain) {
    for (std::int64_t begin = 0; begin < count;) {
      const std::int64_t end = begin + std::min(grain, count - begin);
      invoke(context, begin, end);
      begin = end;
    }
    return;
  }
  Shared& shared = *shared_;
  shared.invoke = invoke;
  shared.context = context;
  shared.count = count;
  shared.grain = grain;
  shared.ranges = (count - 1) / grain + 1;
  shared.exception = nullptr;
  shared.next_range.store(0, std::memory_order_relaxed);
  shared.busy.store(size_ - 1, std::memory_order_relaxed);
  shared.generation.fetch_add(1, std::memory_order_release);
  shared.generation.notify_all();
  shared.work();
  for (int spin = 0; spin < shared.spins && shared.busy.load(std::memory_order_acquire) != 0; ++spin) pause_briefly();
  for (int left = shared.busy.load(std::memory_order_acquire); left != 0;
       left = shared.busy.load(std::memory_order_acquire)) {
    shared.busy.wait(left, std::memory_order_acquire);
  }
  if (shared.exception) std::rethrow_exception(std::exchange(shared.exception, nullptr));
}

}  // namespace core
}  // namespace krait
