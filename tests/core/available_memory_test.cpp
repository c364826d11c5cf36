#include "krait/core/available_memory.h"

#include <gtest/gtest.h>

namespace krait {
namespace {

TEST(AvailableMemory, ReadsTheSystemsWords) {
  constexpr std::string_view kText = "MemTotal:       24571424 kB\nMemFree:  7 kB\nMemAvailable:   24019380 kB\n";
  EXPECT_EQ(parse_meminfo(kText, "MemAvailable"), 24019380ULL << 10);
  EXPECT_EQ(parse_meminfo(kText, "MemFree"), 7ULL << 10);
  EXPECT_EQ(parse_meminfo(kText, "Swap"), std::nullopt);
  EXPECT_EQ(parse_meminfo("MemAvailable: many", "MemAvailable"), std::nullopt);
  EXPECT_EQ(parse_meminfo("MemAvailable: 99999999999999999999 kB", "MemAvailable"), std::nullopt);
}

TEST(AvailableMemory, ThisMachineHasSome) {
  const auto memory = available_memory();
  ASSERT_TRUE(memory.has_value());
  EXPECT_GT(*memory, 1ULL << 20);
}

}  // namespace
}  // namespace krait
