#include "krait/kernels/simd_target.h"

#include "krait/kernels/simd/highway_config.h"
//
#include "hwy/highway.h"

namespace krait::kernels {
namespace {

std::int64_t usable_targets() { return hwy::SupportedTargets() & HWY_TARGETS; }

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
  if (!chosen.IsInitialized()) chosen.Update(hwy::SupportedTargets());
  // The index counts the columns of Highway's dispatch table: 1 + the bit of the target, counted from the lowest of
  // the HWY_MAX_DYNAMIC_TARGETS bits of this architecture.
  const auto bit =
      static_cast<std::int64_t>(chosen.GetIndex()) - 1 + HWY_HIGHEST_TARGET_BIT + 1 - HWY_MAX_DYNAMIC_TARGETS;
  if (bit > HWY_HIGHEST_TARGET_BIT) return hwy::TargetName(HWY_STATIC_TARGET);
  return hwy::TargetName(std::int64_t{1} << bit);
}

bool force_target(std::string_view name) {
  if (name.empty()) {
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    return true;
  }
  for (std::int64_t left = usable_targets(); left != 0; left &= left - 1) {
    const std::int64_t target = left & -left;
    if (name == hwy::TargetName(target)) {
      hwy::GetChosenTarget().Update(target);
      return true;
    }
  }
  return false;
}

}  // namespace krait::kernels
