// The cores that this process may use, by number, and threads that keep to some of them.
#pragma once

#include <span>
#include <vector>

namespace krait {
inline namespace core {

// Rising; at least one. Of the calling thread: what it starts inherits them.
std::vector<int> usable_cores();

// The same ones in another order: those of a package next to each other, and in it those that are one core to the
// hardware, so that a group of neighbours shares as little as can be with the next one. Where the system does not say,
// as they came.
std::vector<int> by_place(std::vector<int> cores);

// The calling thread runs on these alone from now on. Where the system does not let it, it runs where it did.
void keep_to(std::span<const int> cores);

}  // namespace core
}  // namespace krait
