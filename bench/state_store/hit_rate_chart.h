// Draws hit rates against capacity as SVG text, a panel a trace: what docs/state_store.md shows.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace krait::bench {

struct HitRates {
  struct Line {
    std::string policy;
    std::vector<double> rates;  // one a capacity
  };
  std::string trace;
  std::vector<Line> lines;
};

// Capacity 0 stands for unlimited.
std::string hit_rate_chart(const std::vector<std::uint64_t>& capacities, const std::vector<HitRates>& traces);

}  // namespace krait::bench
