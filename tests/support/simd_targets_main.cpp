// `main` of the test programs that reach the kernels: KRAIT_TARGET holds for every test, and a name that this machine
// or this build does not know ends the program before any test could run on something else.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "krait/kernels/simd_target.h"
#include "tests/support/simd_targets.h"

namespace krait::tests {

std::string target_of_environment() {
  const char* name = std::getenv("KRAIT_TARGET");
  return name != nullptr ? name : "";
}

std::vector<std::string> targets_under_test() {
  if (!target_of_environment().empty()) return {kernels::active_target()};
  return kernels::supported_targets();
}

Result<void> use_default_target() { return kernels::force_target(target_of_environment()); }

}  // namespace krait::tests

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (const auto done = krait::tests::use_default_target(); !done) {
    fmt::print(stderr, "KRAIT_TARGET: {}\n", done.error().message);
    return 2;
  }
  return RUN_ALL_TESTS();
}
