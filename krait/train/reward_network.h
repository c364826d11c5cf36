// Says beforehand what a mixture of objectives will be worth to each of them: a small network from what was seen and
// the mixture to the rewards (curriculum_reward.h), learned from what mixtures were worth so far by the mean of squared
// errors, with AdamW.
#pragma once

#include <torch/nn/module.h>

#include <span>
#include <vector>

#include "krait/train/optimiser.h"

namespace krait::train {

struct RewardNetworkOptions {
  std::int64_t inputs = 0, rewards = 0;
  std::int64_t width = 256, layers = 4;
  double rate = 5e-4, decay = 0.1;
  std::uint64_t seed = 0;
};

class RewardNetwork {
 public:
  // The same seed gives the same network.
  explicit RewardNetwork(const RewardNetworkOptions& options);

  // [M, inputs] and [M, rewards] as rows one after the other. The loss before the update.
  double learn(std::span<const float> inputs, std::span<const float> rewards);
  std::vector<float> predict(std::span<const float> inputs) const;

  Optimiser& optimiser() { return *optimiser_; }
  const Optimiser& optimiser() const { return *optimiser_; }

 private:
  struct Module;
  RewardNetworkOptions options_;
  std::shared_ptr<Module> module_;
  std::unique_ptr<Optimiser> optimiser_;
};

}  // namespace krait::train
