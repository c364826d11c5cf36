// A small model that learns a small task, for tests of training.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "krait/train/batch_source.h"
#include "krait/train/trained_model.h"
#include "krait/train/trainer.h"

namespace krait::tests {

struct SmallRun {
  std::shared_ptr<const train::Task> task;
  std::unique_ptr<train::TaskSource> source;
  std::shared_ptr<nn::LanguageModel> model;
  std::unique_ptr<train::Trainer> trainer;

  explicit SmallRun(const std::string& mixer, std::int64_t batch = 4, train::TrainerOptions options = {}) {
    task = std::move(*train::make_task("induction_heads"));
    source = std::make_unique<train::TaskSource>(task, 1, batch);
    model = *train::make_model({.mixers = {mixer},
                                .vocabulary = task->vocabulary(),
                                .width = 16,
                                .layers = 2,
                                .states = 8,
                                .head_width = 8,
                                .seed = 5});
    if (options.schedule.steps == 0) options.schedule = {.peak = 1e-2, .warm_up = 2, .steps = 20};
    trainer = std::make_unique<train::Trainer>(*model, *source, options);
  }

  std::vector<double> losses(int steps) {
    std::vector<double> result;
    for (int i = 0; i < steps; ++i) result.push_back(trainer->step()->loss);
    return result;
  }

  std::vector<float> parameters() const {
    std::vector<float> all;
    for (const at::Tensor& tensor : model->parameters()) {
      all.insert(all.end(), tensor.data_ptr<float>(), tensor.data_ptr<float>() + tensor.numel());
    }
    return all;
  }
};

}  // namespace krait::tests
