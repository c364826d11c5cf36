// How well a model says held-out text, and how many answers of a task it gets right.
#pragma once

#include "krait/nn/language_model.h"
#include "krait/train/batch_source.h"
#include "krait/train/task.h"

namespace krait::train {

struct TextEvaluation {
  double nats = 0.0;        // over all scored tokens
  std::int64_t tokens = 0;  // scored
  std::int64_t batches = 0;
  double mean() const { return tokens > 0 ? nats / static_cast<double>(tokens) : 0.0; }
};

// All batches of a source that ends, or the first `most` of them (0: all).
Result<TextEvaluation> evaluate_text(nn::LanguageModel& model, DataLoader& loader, std::int64_t most = 0);

// Batches that were drawn once.
TextEvaluation evaluate_batches(nn::LanguageModel& model, std::span<const Batch> batches);

// Examples first … first + count - 1 of the task under `seed`, `batch` at a time.
TaskScore evaluate_task(nn::LanguageModel& model, const Task& task, std::uint64_t seed, std::int64_t count,
                        std::int64_t batch, std::int64_t first = 0);

}  // namespace krait::train
