// libtorch's generator of random numbers, which is one for the process and which all its initialisers draw from:
// seeded, and nobody else's for as long as this lives. Without it, models that several threads make at once take
// numbers from each other.
#pragma once

#include <ATen/Context.h>

#include <cstdint>
#include <mutex>

namespace krait::train {

class SeededGenerator {
 public:
  explicit SeededGenerator(std::uint64_t seed) : turn_(turns()) { at::manual_seed(seed); }

 private:
  static std::mutex& turns() {
    static std::mutex turns;
    return turns;
  }
  std::lock_guard<std::mutex> turn_;
};

}  // namespace krait::train
