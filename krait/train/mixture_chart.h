// The mixture of objectives over a run as SVG text: shares stacked from 0 to 1 over steps, each mixture as long as it
// was in force.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace krait::train {

struct MixtureStretch {
  std::int64_t step = 0;  // where it begins; it ends where the next does
  std::vector<double> shares;
};

// `end`: the step where the last stretch ends. Empty where there is nothing to draw.
std::string mixture_chart(std::span<const std::string> names, std::span<const MixtureStretch> stretches,
                          std::int64_t end);

}  // namespace krait::train
