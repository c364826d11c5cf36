// How much memory this process has of the system, as Linux tells it (/proc/self/status), for runs that are held to a
// limit.
#pragma once

#include <cstdint>
#include <functional>

namespace krait::train {

// 0 where the system does not tell.
std::uint64_t resident_bytes();
// The most it has been since the start.
std::uint64_t peak_resident_bytes();
// The most it is while `call` runs, less what it is before.
std::uint64_t resident_growth(const std::function<void()>& call);

// From now on large blocks go back to the system when they are freed, instead of lying there for the next one: what is
// resident is then what is in use. Costs a page fault for each page of each block.
void return_freed_memory();

}  // namespace krait::train
