#include "krait/server/core_groups.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace krait::server {
namespace {

std::optional<int> number_of(std::string_view text) {
  int number = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

std::string_view to_string(LaneRole role) {
  switch (role) {
    case LaneRole::mixed: return "mixed";
    case LaneRole::prompts: return "prompts";
    case LaneRole::decodes: return "decodes";
  }
  return "unknown";
}

Result<CoreGroups> parse_core_groups(std::string_view text, int cores) {
  using Choice = CoreGroups::Choice;
  CoreGroups groups;
  if (text == "auto") {
    const int decodes = std::max(1, cores / 4);
    groups = {.choice = Choice::automatic, .prompt_cores = cores - decodes, .decode_cores = decodes};
  } else if (text != "together") {
    const std::size_t colon = text.find(':');
    const auto prompts = number_of(text.substr(0, colon));
    const auto decodes = colon == std::string_view::npos ? std::nullopt : number_of(text.substr(colon + 1));
    if (!prompts || !decodes) {
      return fail(ErrorCode::kInvalidArgument,
                  "[core groups] \"{}\" is none of together, auto and P:D, cores for prompts and cores for decodes",
                  text);
    }
    groups = {.choice = Choice::apart, .prompt_cores = *prompts, .decode_cores = *decodes};
  }
  KRAIT_TRY(check_core_groups(groups, cores));
  return groups;
}

std::string to_string(const CoreGroups& groups) {
  switch (groups.choice) {
    case CoreGroups::Choice::together: return "together";
    case CoreGroups::Choice::automatic: return "auto";
    case CoreGroups::Choice::apart: break;
  }
  return fmt::format("{}:{}", groups.prompt_cores, groups.decode_cores);
}

Result<void> check_core_groups(const CoreGroups& groups, int cores) {
  if (groups.choice == CoreGroups::Choice::together) return {};
  if (groups.prompt_cores < 1 || groups.decode_cores < 1 || groups.prompt_cores > cores - groups.decode_cores) {
    return fail(ErrorCode::kInvalidArgument,
                "[core groups] {} for prompts and {} for decodes: each needs one, and there are {} in all",
                groups.prompt_cores, groups.decode_cores, cores);
  }
  return {};
}

}  // namespace krait::server
