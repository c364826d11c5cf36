// What a run will have of memory, before it begins, and how much of it the buffers of its offload file may be:
//
//   program + state that stays in memory + what a step makes and drops + buffers
//
// The first is measured, the second and last are counted, the third is rehearsed: a model of two layers of each kind
// with the run's dimensions takes one and two sequences of the run's first batch through forward and backward, and what
// that takes grows by as much with every further sequence.
#pragma once

#include <cstdint>
#include <string>

#include "krait/train/batch.h"
#include "krait/train/run_config.h"

namespace krait::train {

struct MemoryPlan {
  std::uint64_t program = 0;  // libraries, threads, data, code that oneDNN made
  std::uint64_t state = 0;    // parameters, gradients, moments, averages, wherever they are
  std::uint64_t held = 0;     // of them in memory
  std::uint64_t working = 0;  // activations, and gradients on their way
  std::uint64_t buffers = 0;
  std::uint64_t file = 0;   // bytes on the disk
  std::uint64_t limit = 0;  // 0: none

  std::uint64_t predicted() const { return program + held + working + buffers; }
  std::string text() const;  // a line for people
};

// For a configuration with [memory]; `first` is a batch as the run will have them. From then on the process gives
// memory back that it freed (tensor_memory.h). kResourceExhausted for a limit that cannot be held, with the numbers.
Result<MemoryPlan> plan_memory(const RunConfig& config, const Batch& first);

}  // namespace krait::train
