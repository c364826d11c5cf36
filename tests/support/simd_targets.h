// The SIMD targets that tests run on: all of the machine, or the one that KRAIT_TARGET names.
#pragma once

#include <string>
#include <vector>

#include "krait/core/error.h"

namespace krait::tests {

// The name in KRAIT_TARGET; empty when there is none.
std::string target_of_environment();

// What `on_every_target` walks: the target of the environment alone, or else every supported one.
std::vector<std::string> targets_under_test();

// Back to what holds outside of such a walk: the target of the environment, or else the best one.
Result<void> use_default_target();

}  // namespace krait::tests
