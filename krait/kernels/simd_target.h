// Which instruction set the kernels run on. Each kernel is compiled for several; the best one this machine has is
// taken at the first call. Tests and the curious can force another.
//
// The library does not read the environment: KRAIT_TARGET is the program's and the tests' business.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"

namespace krait::kernels {

// Names of the targets that were compiled and that this machine can run, best first: "AVX3_VNNI" (AVX-512 with integer
// dot products), "AVX3" (AVX-512 without), "AVX2", "SSE4", "NEON", … Never empty: the last is the one that the whole
// program is compiled for.
std::vector<std::string> supported_targets();

// The one in use.
std::string active_target();

// Makes every later kernel call of the process use that target; an empty name goes back to the best one. Capitals do
// not matter. An error that names what there is, and no change, when the name is not in supported_targets(). Do not
// call while kernels run.
Result<void> force_target(std::string_view name);

// Whether kernels with a variant for AVX-512's integer dot products take it.
bool vnni_in_use();

}  // namespace krait::kernels
