#include "krait/nn/compute_threads.h"

#include <algorithm>
#include <ctime>
#include <memory>

namespace krait::nn {
namespace {

std::mutex turn;
std::unique_ptr<ThreadPool> pool;
// Guarded by `turn`, as the pool is.
bool recording = false;
std::vector<ComputeTime> times;

ThreadPool& pool_in_turn() {
  if (pool == nullptr) pool = std::make_unique<ThreadPool>();
  return *pool;
}

double now(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

std::string_view file_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

void set_compute_threads(int threads) {
  const std::lock_guard lock(turn);
  pool = std::make_unique<ThreadPool>(threads);
}

int compute_threads() {
  const std::lock_guard lock(turn);
  return pool_in_turn().size();
}

ComputePool::ComputePool(std::source_location user) : turn_(turn), pool_(pool_in_turn()), user_(user.file_name()) {
  if (!recording) return;
  start_ = now(CLOCK_MONOTONIC);
  processor_start_ = now(CLOCK_PROCESS_CPUTIME_ID);
}

ComputePool::~ComputePool() {
  if (!recording) return;
  const std::string_view file = file_name(user_);
  auto found = std::ranges::find(times, file, &ComputeTime::file);
  if (found == times.end()) found = times.insert(found, {.file = file});
  found->seconds += now(CLOCK_MONOTONIC) - start_;
  found->processor_seconds += now(CLOCK_PROCESS_CPUTIME_ID) - processor_start_;
  ++found->turns;
}

void record_compute_times(bool wanted) {
  const std::lock_guard lock(turn);
  recording = wanted;
  if (wanted) times.clear();
}

std::vector<ComputeTime> compute_times() {
  const std::lock_guard lock(turn);
  return times;
}

}  // namespace krait::nn
