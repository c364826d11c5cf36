#include "krait/nn/compute_threads.h"

#include <gtest/gtest.h>

namespace krait::nn {
namespace {

TEST(ComputeTimes, AreOfTheFilesThatHeldThePoolWhileTheyWereRecorded) {
  {
    const ComputePool unrecorded;
  }
  record_compute_times(true);
  EXPECT_TRUE(compute_times().empty());
  for (int i = 0; i < 3; ++i) const ComputePool turn;
  std::vector<ComputeTime> times = compute_times();
  ASSERT_EQ(times.size(), 1U);
  EXPECT_EQ(times[0].file, "compute_threads_test.cpp");
  EXPECT_EQ(times[0].turns, 3);
  EXPECT_GT(times[0].seconds, 0.0);

  record_compute_times(false);
  {
    const ComputePool unrecorded;
  }
  EXPECT_EQ(compute_times()[0].turns, 3) << "what was recorded stays until the next time";
  record_compute_times(true);
  EXPECT_TRUE(compute_times().empty());
  record_compute_times(false);
}

}  // namespace
}  // namespace krait::nn
