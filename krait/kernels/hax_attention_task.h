// What a row of hax_attention reads and where it is stored, found out from the keys alone; the values follow it, a
// block of columns at a time, on any thread.
#pragma once

#include <cstdint>

#include "krait/kernels/hax_attention.h"

namespace krait::kernels {

struct HaxChoice {
  std::int32_t ring_slot = -1;      // where the row's value goes, of the slots of the state; -1: nowhere
  std::int32_t selected_slot = -1;  // the same, among the best
  std::int32_t count = 0;           // tokens read
};

// The choices of all rows of a call, and for each the slots that are read and their weights in the softmax.
struct HaxPlan {
  HaxChoice* choices = nullptr;   // [M]
  std::int32_t* slots = nullptr;  // [M, R + S]
  float* weights = nullptr;       // [M, R + S]
};

}  // namespace krait::kernels
