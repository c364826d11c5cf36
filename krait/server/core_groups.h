// How the cores are divided between prompts and replies (semi-PD, arXiv 2504.19867, on cores in the place of a GPU's
// processors): together, prompts are read in the steps of those that decode; apart, each has cores of its own, and two
// steps run at the same time over the same weights and states.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "krait/core/error.h"

namespace krait::server {

// What a lane steps. Mixed: decodes with pieces of prompts beside them, on all cores.
enum class LaneRole : std::uint8_t { mixed, prompts, decodes };
inline constexpr std::size_t kLaneRoles = 3;
inline constexpr std::size_t index_of(LaneRole role) { return static_cast<std::size_t>(role); }
std::string_view to_string(LaneRole role);

struct CoreGroups {
  enum class Choice : std::uint8_t { together, apart, automatic };  // automatic: group_controller.h decides, as it runs
  Choice choice = Choice::together;
  int prompt_cores = 0;  // where they may be apart
  int decode_cores = 0;
  bool operator==(const CoreGroups&) const = default;
};

// "together", "auto", or "P:D": apart, with P cores for prompts and D for decodes, of the `cores` that there are. With
// "auto" decodes have a quarter when they are apart: what bounds them is the memory's speed, which few cores use up.
Result<CoreGroups> parse_core_groups(std::string_view text, int cores);
// As it is written there.
std::string to_string(const CoreGroups& groups);
// Whether so many cores can be divided that way.
Result<void> check_core_groups(const CoreGroups& groups, int cores);

}  // namespace krait::server
