#include "krait/kernels/simd_target.h"

#include <atomic>

#include "krait/kernels/simd/highway_config.h"
//
#include "hwy/highway.h"

namespace krait::kernels {
namespace {

std::int64_t usable_targets() { return hwy::SupportedTargets() & HWY_TARGETS; }

// A variant within Highway's AVX3 (simd/dot_int8-inl.h).
constexpr std::string_view kVnniName = "AVX3_VNNI";

bool machine_has_vnni() {
#if HWY_ARCH_X86
  return (usable_targets() & HWY_AVX3) != 0 && __builtin_cpu_supports("avx512vnni") != 0;
#else
  return false;
#endif
}

std::atomic<bool>& vnni_allowed() {
  static std::atomic<bool> allowed = machine_has_vnni();
  return allowed;
}

}  // namespace

std::vector<std::string> supported_targets() {
  std::vector<std::string> names;
  if (machine_has_vnni()) names.emplace_back(kVnniName);
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
  if (vnni_in_use() && std::int64_t{1} << bit == HWY_AVX3) return std::string(kVnniName);
  return hwy::TargetName(std::int64_t{1} << bit);
}

bool force_target(std::string_view name) {
  if (name.empty()) {
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    vnni_allowed() = machine_has_vnni();
    return true;
  }
  if (name == kVnniName && machine_has_vnni()) {
    hwy::GetChosenTarget().Update(HWY_AVX3);
    vnni_allowed() = true;
    return true;
  }
  for (std::int64_t left = usable_targets(); left != 0; left &= left - 1) {
    const std::int64_t target = left & -left;
    if (name == hwy::TargetName(target)) {
      hwy::GetChosenTarget().Update(target);
      vnni_allowed() = false;
      return true;
    }
  }
  return false;
}

bool vnni_in_use() { return vnni_allowed(); }

}  // namespace krait::kernels
