#include "krait/train/reward_network.h"

#include <ATen/Context.h>
#include <ATen/Functions.h>

#include "krait/core/check.h"
#include "krait/nn/dense.h"
#include "krait/train/seeded_generator.h"

namespace krait::train {
namespace {

at::Tensor rows_of(std::span<const float> values, std::int64_t width) {
  const auto count = static_cast<std::int64_t>(values.size());
  KRAIT_CHECK(width > 0 && count % width == 0, "{} numbers in rows of {}", count, width);
  at::Tensor rows = at::empty({count / width, width}, at::kFloat);
  std::ranges::copy(values, rows.data_ptr<float>());
  return rows;
}

}  // namespace

// krait's own dense layers, whose results do not depend on the number of threads.
struct RewardNetwork::Module : torch::nn::Module {
  explicit Module(const RewardNetworkOptions& options) {
    std::int64_t width = options.inputs;
    for (std::int64_t i = 0; i < options.layers; ++i) {
      layers.push_back(
          register_module(fmt::format("layer{}", i), std::make_shared<nn::Dense>(width, options.width, true)));
      width = options.width;
    }
    head = register_module("head", std::make_shared<nn::Dense>(width, options.rewards, true));
  }
  at::Tensor forward(at::Tensor x) const {
    for (const auto& layer : layers) x = at::silu(layer->forward(x));
    return head->forward(x);
  }

  std::vector<std::shared_ptr<nn::Dense>> layers;
  std::shared_ptr<nn::Dense> head;
};

RewardNetwork::RewardNetwork(const RewardNetworkOptions& options) : options_(options) {
  KRAIT_CHECK(options.inputs > 0 && options.rewards > 0, "a network of {} inputs and {} rewards", options.inputs,
              options.rewards);
  const SeededGenerator generator(options.seed);
  module_ = std::make_shared<Module>(options);
  optimiser_ = std::make_unique<Optimiser>(*module_, OptimiserOptions{.b2 = 0.999, .decay = options.decay});
}

double RewardNetwork::learn(std::span<const float> inputs, std::span<const float> rewards) {
  const at::Tensor wrong = module_->forward(rows_of(inputs, options_.inputs)) - rows_of(rewards, options_.rewards);
  const at::Tensor loss = (wrong * wrong).mean();
  loss.backward();
  optimiser_->step(options_.rate);
  return loss.item<double>();
}

std::vector<float> RewardNetwork::predict(std::span<const float> inputs) const {
  const at::NoGradGuard guard;
  const at::Tensor rewards = module_->forward(rows_of(inputs, options_.inputs)).contiguous();
  return {rewards.data_ptr<float>(), rewards.data_ptr<float>() + rewards.numel()};
}

}  // namespace krait::train
