#include "krait/kernels/simd_target.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>

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

void use(std::int64_t targets, bool vnni) {
  vnni_allowed() = vnni;
  hwy::GetChosenTarget().Update(targets);
}

bool equal_without_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
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
  const bool vnni = vnni_in_use();  // before Highway is looked at: asking it for the first time changes its choice
  hwy::ChosenTarget& chosen = hwy::GetChosenTarget();
  if (!chosen.IsInitialized()) chosen.Update(usable_targets());
  // The index counts the columns of Highway's dispatch table: 1 + the bit of the target, counted from the lowest of
  // the HWY_MAX_DYNAMIC_TARGETS bits of this architecture.
  const auto bit =
      static_cast<std::int64_t>(chosen.GetIndex()) - 1 + HWY_HIGHEST_TARGET_BIT + 1 - HWY_MAX_DYNAMIC_TARGETS;
  if (bit > HWY_HIGHEST_TARGET_BIT) return hwy::TargetName(HWY_STATIC_TARGET);
  if (vnni && std::int64_t{1} << bit == HWY_AVX3) return std::string(kVnniName);
  return hwy::TargetName(std::int64_t{1} << bit);
}

Result<void> force_target(std::string_view name) {
  if (name.empty()) {
    use(usable_targets(), machine_has_vnni());
    return {};
  }
  if (machine_has_vnni() && equal_without_case(name, kVnniName)) {
    use(HWY_AVX3, true);
    return {};
  }
  for (std::int64_t left = usable_targets(); left != 0; left &= left - 1) {
    const std::int64_t target = left & -left;
    if (equal_without_case(name, hwy::TargetName(target))) {
      use(target, false);
      return {};
    }
  }
  return fail(ErrorCode::kUnsupported, "[kernels] no SIMD target '{}' in this build on this CPU: there is {}", name,
              fmt::join(supported_targets(), ", "));
}

bool vnni_in_use() { return vnni_allowed(); }

}  // namespace krait::kernels
