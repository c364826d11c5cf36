#include "krait/nn/compute_threads.h"

#include <memory>

namespace krait::nn {
namespace {

std::mutex turn;
std::unique_ptr<ThreadPool> pool;

ThreadPool& pool_in_turn() {
  if (pool == nullptr) pool = std::make_unique<ThreadPool>();
  return *pool;
}

}  // namespace

void set_compute_threads(int threads) {
  const std::lock_guard lock(turn);
  pool = std::make_unique<ThreadPool>(threads);
}

int compute_threads() {
  const std::lock_guard lock(turn);
  return pool_in_turn().size();
}

ComputePool::ComputePool() : turn_(turn), pool_(pool_in_turn()) {}

}  // namespace krait::nn
