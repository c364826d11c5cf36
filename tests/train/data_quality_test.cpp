#include "krait/train/data_quality.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace krait::train {
namespace {

std::int64_t dropped_by(const QualityFilter& filter, std::string_view rule) {
  return std::ranges::find(filter.rules(), rule, &QualityRule::name)->dropped;
}

TEST(DataQuality, MeasuresText) {
  const TextMeasures plain = measure_text("Caf\xc3\xa9 \xe6\x97\xa5\xe6\x9c\xac 12\n\ttab");
  EXPECT_EQ(plain.printable, 1);
  EXPECT_EQ(plain.symbols, 0);
  EXPECT_EQ(plain.repeated_lines, 0);
  EXPECT_DOUBLE_EQ(measure_text("ab\x01\xff").printable, 0.5);
  EXPECT_DOUBLE_EQ(measure_text("a$ %b").symbols, 0.5);
  // Four lines that are not blank, of which two stood before, whatever spaces are round them.
  EXPECT_DOUBLE_EQ(measure_text("x\n\n x \ny\nx\n").repeated_lines, 0.5);
  EXPECT_EQ(measure_text("").printable, 1);
}

TEST(DataQuality, DropsByTheFirstRuleThatIsBroken) {
  QualityFilter filter(
      {.shortest = 5, .longest = 40, .least_printable = 0.9, .most_symbols = 0.4, .most_repeated_lines = 0.3});
  EXPECT_TRUE(filter.keeps("a plain line\nand another"));
  EXPECT_FALSE(filter.keeps("a"));
  EXPECT_FALSE(filter.keeps("$$$"));  // short and of symbols: counted once
  EXPECT_FALSE(filter.keeps(std::string(41, 'a')));
  EXPECT_TRUE(filter.keeps(std::string(40, 'a')));
  EXPECT_FALSE(filter.keeps("ab\x01\x02 cd"));
  EXPECT_FALSE(filter.keeps("#### $$$$ ab"));
  EXPECT_FALSE(filter.keeps("same\nsame\nother"));
  EXPECT_EQ(dropped_by(filter, "shortest"), 2);
  EXPECT_EQ(dropped_by(filter, "longest"), 1);
  EXPECT_EQ(dropped_by(filter, "least_printable"), 1);
  EXPECT_EQ(dropped_by(filter, "most_symbols"), 1);
  EXPECT_EQ(dropped_by(filter, "most_repeated_lines"), 1);
  EXPECT_EQ(filter.kept(), 2);
}

}  // namespace
}  // namespace krait::train
