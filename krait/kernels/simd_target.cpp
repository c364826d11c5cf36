#include "krait/kernels/simd_target.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "krait/kernels/simd/highway_config.h"
//
#include "hwy/highway.h"

namespace krait::kernels {
namespace {

// The floor is usable wherever the program runs at all. Highway does not always say so: it wants AES of a CPU for
// SSE4, and the first CPUs with SSE4.2 had none. Its dispatch tables end with the floor, so kernels run there.
//
// Highway is asked once: its SupportedTargets() also goes back to the best target.
std::int64_t usable_targets() {
  static const std::int64_t targets = (hwy::SupportedTargets() & HWY_TARGETS) | HWY_STATIC_TARGET;
  return targets;
}

bool equal_without_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

}  // namespace

std::vector<std::string> supported_targets() {
  std::vector<std::string> names;
  for (std::int64_t left = usable_targets(); left != 0; left &= left - 1) {
    names.emplace_back(hwy::TargetName(left & -left));
  }
  return names;
}

std::string active_target() {
  hwy::ChosenTarget& chosen = hwy::GetChosenTarget();
  if (!chosen.IsInitialized()) chosen.Update(usable_targets());
  // The index counts the columns of Highway's dispatch table: 1 + the bit of the target, counted from the lowest of
  // the HWY_MAX_DYNAMIC_TARGETS bits of this architecture.
  const auto bit =
      static_cast<std::int64_t>(chosen.GetIndex()) - 1 + HWY_HIGHEST_TARGET_BIT + 1 - HWY_MAX_DYNAMIC_TARGETS;
  if (bit > HWY_HIGHEST_TARGET_BIT) return hwy::TargetName(HWY_STATIC_TARGET);
  return hwy::TargetName(std::int64_t{1} << bit);
}

Result<void> force_target(std::string_view name) {
  if (name.empty()) {
    hwy::GetChosenTarget().Update(usable_targets());
    return {};
  }
  for (std::int64_t left = usable_targets(); left != 0; left &= left - 1) {
    const std::int64_t target = left & -left;
    if (equal_without_case(name, hwy::TargetName(target))) {
      hwy::GetChosenTarget().Update(target);
      return {};
    }
  }
  return fail(ErrorCode::kUnsupported, "[kernels] no SIMD target '{}' in this build on this CPU: there is {}", name,
              fmt::join(supported_targets(), ", "));
}

}  // namespace krait::kernels
