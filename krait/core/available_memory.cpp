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

// A number alone in a file; "max" is none.
std::optional<std::uint64_t> read_number(const char* path) {
  const std::string text = read_text(path);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
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

std::optional<std::uint64_t> available_memory() {
  const auto system = parse_meminfo(read_text("/proc/meminfo"), "MemAvailable");
  const auto limit = read_number("/sys/fs/cgroup/memory.max");
  const auto used = read_number("/sys/fs/cgroup/memory.current");
  if (!limit || !used) return system;
  const std::uint64_t group = *limit > *used ? *limit - *used : 0;
  return system ? std::min(*system, group) : group;
}

}  // namespace core
}  // namespace krait
