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

TEST(AvailableMemory, OfAControlGroupFilesGiveWay) {
  constexpr std::string_view kStatistics = "anon 300\nfile 700\ninactive_file 400\nactive_file 250\nslab 5\n";
  EXPECT_EQ(group_memory("2000\n", "1000\n", kStatistics), 1650U);
  EXPECT_EQ(group_memory("2000\n", "1000\n", ""), 1000U);
  EXPECT_EQ(group_memory("500\n", "1000\n", ""), 0U);
  EXPECT_EQ(group_memory("2000\n", "100\n", kStatistics), 2000U);
  EXPECT_EQ(group_memory("max\n", "1000\n", kStatistics), std::nullopt);
  EXPECT_EQ(group_memory("", "", ""), std::nullopt);
}

TEST(AvailableMemory, ThisMachineHasSome) {
  const auto memory = available_memory();
  ASSERT_TRUE(memory.has_value());
  EXPECT_GT(*memory, 1ULL << 20);
}

}  // namespace
}  // namespace krait
