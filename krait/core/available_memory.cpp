#include "krait/core/available_memory.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string>

namespace krait {
inline namespace core {
namespace {

std::string read_text(const char* path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return std::move(text).str();
}

// The number that a text begins with; "max" has none.
std::optional<std::uint64_t> leading_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

// Of a line "key value"; 0 when it is not there.
std::uint64_t statistic(std::string_view text, std::string_view key) {
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view line = text.substr(at, text.find('\n', at) - at);
    if (line.starts_with(key) && line.size() > key.size() && line[key.size()] == ' ') {
      return leading_number(line.substr(key.size() + 1)).value_or(0);
    }
    at += line.size() + 1;
  }
  return 0;
}

}  // namespace

std::optional<std::uint64_t> parse_meminfo(std::string_view text, std::string_view key) {
  const std::size_t at = text.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  std::size_t first = at + key.size();
  while (first < text.size() && (text[first] == ':' || text[first] == ' ' || text[first] == '\t')) ++first;
  std::uint64_t kilobytes = 0;
  const auto [end, error] = std::from_chars(text.data() + first, text.data() + text.size(), kilobytes);
  if (error != std::errc() || kilobytes > (std::uint64_t{1} << 53)) return std::nullopt;
  return kilobytes << 10;
}

std::optional<std::uint64_t> group_memory(std::string_view limit, std::string_view used, std::string_view statistics) {
  const auto most = leading_number(limit), current = leading_number(used);
  if (!most || !current) return std::nullopt;
  const std::uint64_t files = statistic(statistics, "inactive_file") + statistic(statistics, "active_file");
  const std::uint64_t held = *current - std::min(*current, files);
  return *most - std::min(*most, held);
}

std::optional<std::uint64_t> available_memory() {
  const auto system = parse_meminfo(read_text("/proc/meminfo"), "MemAvailable");
  const auto group = group_memory(read_text("/sys/fs/cgroup/memory.max"), read_text("/sys/fs/cgroup/memory.current"),
                                  read_text("/sys/fs/cgroup/memory.stat"));
  if (!group) return system;
  return system ? std::min(*system, *group) : *group;
}

}  // namespace core
}  // namespace krait
