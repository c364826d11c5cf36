#include "krait/runtime/stop_strings.h"

#include <gtest/gtest.h>

#include "krait/core/random.h"

namespace krait::runtime {
namespace {

TEST(StopStrings, CutsAtTheFirstOfSeveral) {
  StopStrings stop({"END", "halt"});
  EXPECT_EQ(stop.feed("one two halt three END"), "one two ");
  EXPECT_TRUE(stop.found());
  EXPECT_EQ(stop.feed("more"), "");
  EXPECT_EQ(stop.finish(), "");
}

TEST(StopStrings, HoldsBackWhatCouldBeginOne) {
  StopStrings stop({"</s>"});
  EXPECT_EQ(stop.feed("a<"), "a");
  EXPECT_EQ(stop.feed("/"), "");
  EXPECT_EQ(stop.feed("b"), "</b");
  EXPECT_FALSE(stop.found());
}

TEST(StopStrings, GivesBackWhatWasHeldAtTheEnd) {
  StopStrings stop({"stop"});
  EXPECT_EQ(stop.feed("do not sto"), "do not ");
  EXPECT_EQ(stop.finish(), "sto");
}

TEST(StopStrings, IgnoresEmptyOnesAndWorksWithNone) {
  StopStrings stop({""});
  EXPECT_EQ(stop.feed("anything"), "anything");
  EXPECT_FALSE(stop.found());
}

TEST(StopStrings, AnyCutOfTheTextGivesTheSameResult) {
  const std::string text = "abababcababab abc aab";
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    StopStrings stop({"babc", "aab"});
    std::string shown;
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t length = 1 + random.next() % 4;
      shown += stop.feed(std::string_view(text).substr(i, length));
      i += length;
    }
    shown += stop.finish();
    EXPECT_EQ(shown, "aba") << seed;
    EXPECT_TRUE(stop.found());
    EXPECT_EQ(stop.found_string(), "babc");
  }
}

TEST(StopStrings, SayWhichOneWasFound) {
  StopStrings none({"end"});
  none.feed("no en");
  EXPECT_EQ(none.found_string(), "");
  StopStrings later({"later", "first"});
  later.feed("the first, then later");
  EXPECT_EQ(later.found_string(), "first");
  StopStrings named_first({"en", "end"});
  named_first.feed("the end");
  EXPECT_EQ(named_first.found_string(), "en");
}

}  // namespace
}  // namespace krait::runtime
