// How many rows of an elementwise kernel make one task of the thread pool: enough elements (about 10 µs of work)
// that handing a task out costs nothing beside it.
#pragma once

#include <algorithm>
#include <cstdint>

namespace krait::kernels {

inline std::int64_t rows_per_task(std::int64_t columns) {
  constexpr std::int64_t kElementsPerTask = 16384;
  return std::max<std::int64_t>(1, kElementsPerTask / std::max<std::int64_t>(1, columns));
}

}  // namespace krait::kernels
