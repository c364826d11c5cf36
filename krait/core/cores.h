// The cores that this process may use, by number, and threads that keep to some of them.
#pragma once

#include <span>
#include <vector>

namespace krait {
inline namespace core {

// Rising; at least one. Of the calling thread: what it starts inherits them.
std::vector<int> usable_cores();

// The calling thread runs on these alone from now on. Where the system does not let it, it runs where it did.
void keep_to(std::span<const int> cores);

}  // namespace core
}  // namespace krait
