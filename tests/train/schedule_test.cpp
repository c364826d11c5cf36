#include "krait/train/schedule.h"

#include <gtest/gtest.h>

namespace krait::train {
namespace {

TEST(Schedule, CosineClimbsAndGoesDownToTheLastRate) {
  const Schedule cosine{.shape = ScheduleShape::cosine, .peak = 1.0, .last = 0.1, .warm_up = 10, .steps = 111};
  EXPECT_NEAR(cosine.rate(0), 1.0 / 11.0, 1e-12);
  EXPECT_NEAR(cosine.rate(9), 10.0 / 11.0, 1e-12);
  EXPECT_NEAR(cosine.rate(10), 1.0, 1e-12);
  EXPECT_NEAR(cosine.rate(60), 0.55, 1e-12);  // half-way
  EXPECT_NEAR(cosine.rate(110), 0.1, 1e-12);
  for (int i = 11; i < 111; ++i) EXPECT_LE(cosine.rate(i), cosine.rate(i - 1));
}

TEST(Schedule, WsdHoldsThePeakAndGoesDownInALine) {
  const Schedule wsd{
      .shape = ScheduleShape::wsd, .peak = 2.0, .last = 0.0, .warm_up = 0, .steps = 101, .decay_share = 0.2};
  EXPECT_EQ(wsd.rate(0), 2.0);
  EXPECT_EQ(wsd.rate(80), 2.0);
  EXPECT_NEAR(wsd.rate(90), 1.0, 1e-12);
  EXPECT_NEAR(wsd.rate(100), 0.0, 1e-12);
}

TEST(Schedule, OneStepHasARate) {
  for (const char* name : {"cosine", "wsd", "constant"}) {
    const Schedule schedule{.shape = *schedule_shape(name), .peak = 0.5, .steps = 1};
    EXPECT_EQ(schedule.rate(0), 0.5) << name;
  }
}

TEST(Schedule, NamesWhatItKnows) {
  const auto unknown = schedule_shape("linear");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_NE(unknown.error().message.find("'linear': cosine, wsd, constant"), std::string::npos);
}

}  // namespace
}  // namespace krait::train
