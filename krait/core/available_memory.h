// How much memory this process may still take.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace krait {
inline namespace core {

// What the system has left without swapping, or less where a control group (a container) allows less. Nothing where the
// system does not say.
std::optional<std::uint64_t> available_memory();

// What a control group has left: its limit less what it uses, files kept in memory not counted, since they give way.
// The texts are those of memory.max ("max": no limit), memory.current and memory.stat. Nothing without a limit.
std::optional<std::uint64_t> group_memory(std::string_view limit, std::string_view used, std::string_view statistics);

// Bytes of a line such as "MemAvailable:   24019380 kB" of /proc/meminfo; nothing when it is not there.
std::optional<std::uint64_t> parse_meminfo(std::string_view text, std::string_view key);

}  // namespace core
}  // namespace krait
