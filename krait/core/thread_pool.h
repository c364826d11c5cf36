// A persistent set of threads for the parallel loops of one caller. The calling thread works too, so a pool of size T
// has T-1 workers. Workers spin briefly between loops (a decode step runs hundreds of short loops) and then
// sleep.
//
// Rule for callers: the result of a loop must not depend on how it was cut or on which thread ran what; that is
// what makes generated text the same on any thread count.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>

namespace krait {
inline namespace core {

class ThreadPool {
 public:
  // threads >= 1; 0 means one for each core this process may run on. `cores`: the workers keep to these; none: they run
  // where the thread that makes the pool may.
  explicit ThreadPool(int threads = 0, std::span<const int> cores = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }

  // Calls body(begin, end) on disjoint ranges that cover [0, count), each a multiple of `grain` long except the
  // last; returns when all are done. Ranges are handed out dynamically. An exception thrown by a body is rethrown
  // here once the others have finished. Calls from inside a body run on the calling thread alone.
  // Only one thread may start loops on a pool at a time.
  template <class Body>
  void parallel_for(std::int64_t count, std::int64_t grain, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run(
        count, grain,
        [](void* context, std::int64_t begin, std::int64_t end) { (*static_cast<Plain*>(context))(begin, end); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

  // The number of the calling thread within the running loop, 0 … size()-1: an index for per-thread scratch.
  static int thread_index();

 private:
  using Invoke = void (*)(void* context, std::int64_t begin, std::int64_t end);
  void run(std::int64_t count, std::int64_t grain, Invoke invoke, void* context);

  struct Shared;
  int size_;
  std::unique_ptr<Shared> shared_;
};

}  // namespace core
}  // namespace krait
