// Working memory of a kernel task: one aligned buffer per thread that grows to the largest request and is then
// reused, so that no kernel allocates in steady state.
#pragma once

#include <cstddef>
#include <span>

#include "krait/core/aligned_buffer.h"

namespace krait::kernels {

// At least `floats` floats with any content, valid until the next call on this thread. One user at a time: a kernel
// takes its scratch at the head of a task and calls no other kernel that does before it is done with it.
inline std::span<float> thread_scratch(std::size_t floats) {
  thread_local AlignedBuffer buffer;
  if (buffer.size() < floats * sizeof(float)) buffer = AlignedBuffer(floats * sizeof(float));
  return buffer.as<float>();
}

}  // namespace krait::kernels
