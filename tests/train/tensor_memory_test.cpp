#include "krait/train/tensor_memory.h"

#include <ATen/Functions.h>

#include "tests/train/trainer_testing.h"

namespace krait::train {
namespace {

using tests::SmallRun;

// Large enough for its tensors to be kept.
constexpr std::int64_t kBatch = 256;

// One process, one allocator: what was without comes first.
TEST(TensorMemory, StepsThatKeepTheirMemoryLearnTheSameToTheBitAndTakeNoMore) {
  SmallRun fresh("mamba2", kBatch);
  const std::vector<double> losses = fresh.losses(3);
  const std::vector<float> parameters = fresh.parameters();
  EXPECT_EQ(tensor_memory().reserved, 0U);

  keep_tensor_memory();
  SmallRun kept("mamba2", kBatch);
  std::vector<double> kept_losses = kept.losses(2);
  const SizeClassPool::Use after_two = tensor_memory();
  EXPECT_GT(after_two.reserved, 0U);
  kept_losses.push_back(kept.losses(1)[0]);
  EXPECT_EQ(tensor_memory().reserved, after_two.reserved) << "the third step asks for what the second did";
  EXPECT_EQ(kept_losses, losses);
  EXPECT_EQ(kept.parameters(), parameters);

  // Sizes that do not come again do not pile up.
  for (std::int64_t width = 1; width <= 20; ++width) at::empty({width, 1 << 18});
  const SizeClassPool::Use of_all_sizes = tensor_memory();
  EXPECT_LE(of_all_sizes.reserved, of_all_sizes.peak_asked + of_all_sizes.peak_asked / 4);

  // A step holds nothing large once it is over.
  EXPECT_LT(tensor_memory().held, after_two.reserved / 4);
  release_tensor_memory();
  EXPECT_EQ(tensor_memory().reserved, tensor_memory().held);
}

}  // namespace
}  // namespace krait::train
