#include "krait/train/memory_config.h"

#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

namespace krait::train {

Result<std::uint64_t> parse_bytes(const std::string& text) {
  constexpr std::array<std::pair<std::string_view, double>, 8> kUnits = {
      {{"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}};
  double number = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  for (const auto& [name, bytes] : kUnits) {
    const double product = number * bytes;
    if (error == std::errc() && unit == name && product >= 0.0 && product < 0x1p60) {
      return static_cast<std::uint64_t>(product);
    }
  }
  return fail(ErrorCode::kInvalidArgument, "[train] \"{}\" is no number of bytes such as \"2GiB\" or \"500MB\"", text);
}

void read_memory_config(ConfigFile& file, MemoryOptions& memory) {
  const bool wanted = file.root().has("memory");
  ConfigTable table = file.table("memory");
  if (!wanted) return;
  std::vector<std::string> offload = {"optimiser", "activations", "parameters"};
  table.read("offload", offload);
  for (const std::string& what : offload) {
    if (what == "optimiser") {
      memory.optimiser = true;
    } else if (what == "activations") {
      memory.activations = true;
    } else if (what == "parameters") {
      memory.parameters = true;
    } else {
      table.wrong("offload", fmt::format("has \"{}\"; there are optimiser, activations, parameters", what));
    }
  }
  if ((memory.activations && !memory.optimiser) || (memory.parameters && !memory.activations)) {
    table.wrong("offload", "leaves one out: activations need optimiser beside them, and parameters need both");
  }
  if (!memory.optimiser) table.wrong("offload", "is empty; without [memory] everything is in memory");
  std::string limit, folder;
  table.read("limit", limit);
  table.read("folder", folder);
  memory.folder = folder;
  if (limit.empty()) return;
  if (const auto bytes = parse_bytes(limit); bytes && *bytes > 0) {
    memory.limit = *bytes;
  } else {
    table.wrong("limit", fmt::format("is \"{}\", no number of bytes such as \"2GiB\" or \"500MB\"", limit));
  }
}

}  // namespace krait::train
