#include "krait/train/evaluation.h"

#include <ATen/Functions.h>

#include <algorithm>

#include "krait/train/trainer.h"

namespace krait::train {
namespace {

// The sum, not the mean: batches differ in how many tokens they score.
void score(nn::LanguageModel& model, const Batch& batch, TextEvaluation& result) {
  const nn::TokenLossResult loss = model.loss(batch.ids, batch.labels, model_batch(batch), {}, {}, 1.0);
  result.nats += loss.loss.to(at::kDouble).item<double>();
  result.tokens += loss.rows;
  ++result.batches;
}

}  // namespace

Result<TextEvaluation> evaluate_text(nn::LanguageModel& model, DataLoader& loader, std::int64_t most) {
  const at::NoGradGuard guard;
  TextEvaluation result;
  while (most == 0 || result.batches < most) {
    KRAIT_ASSIGN(const Batch batch, loader.next());
    if (batch.batch == 0) break;
    score(model, batch, result);
  }
  return result;
}

TextEvaluation evaluate_batches(nn::LanguageModel& model, std::span<const Batch> batches) {
  const at::NoGradGuard guard;
  TextEvaluation result;
  for (const Batch& batch : batches) score(model, batch, result);
  return result;
}

TaskScore evaluate_task(nn::LanguageModel& model, const Task& task, std::uint64_t seed, std::int64_t count,
                        std::int64_t batch_size, std::int64_t first) {
  const at::NoGradGuard guard;
  TaskScore score;
  for (std::int64_t done = 0; done < count; done += batch_size) {
    const Batch batch =
        task_batch(task, seed, static_cast<std::uint64_t>(first + done), std::min(batch_size, count - done));
    const at::Tensor likeliest = model.logits(batch.ids, model_batch(batch)).argmax(1).to(at::kInt);
    score.add(batch, {likeliest.data_ptr<std::int32_t>(), static_cast<std::size_t>(likeliest.numel())});
  }
  return score;
}

}  // namespace krait::train
