#include "krait/train/batch_source.h"

#include <optional>

#include "krait/train/data_permutation.h"

namespace krait::train {

Result<void> CorpusSource::seek(std::span<const std::uint64_t> place) {
  KRAIT_ASSIGN(const DataCursor cursor, DataCursor::from_numbers(place));
  return loader_.seek(cursor);
}

TaskSource::TaskSource(std::shared_ptr<const Task> task, std::uint64_t seed, std::int64_t batch, std::int64_t rank,
                       std::int64_t ranks)
    : task_(std::move(task)), seed_(seed), batch_(batch), rank_(rank), ranks_(ranks) {}

Result<Batch> TaskSource::next() {
  const std::uint64_t first = next_ + static_cast<std::uint64_t>(rank_ * batch_);
  next_ += static_cast<std::uint64_t>(ranks_ * batch_);
  const auto count = static_cast<std::uint64_t>(task_->examples());
  if (count == 0) return task_batch(*task_, seed_, first, batch_);
  std::vector<Example> examples;
  std::optional<Permutation> order;
  for (std::uint64_t number = first; number < first + static_cast<std::uint64_t>(batch_); ++number) {
    if (!order || number % count == 0) order.emplace(task_->examples(), seed_, number / count);
    const std::int64_t index = (*order)(static_cast<std::int64_t>(number % count));
    examples.push_back(task_->example(seed_, static_cast<std::uint64_t>(index)));
  }
  return batch_of(examples, task_->longest(), 0);
}

Result<void> TaskSource::seek(std::span<const std::uint64_t> place) {
  if (place.size() != 1) {
    return fail(ErrorCode::kCorrupt, "[train] the place in a task is one number, here are {}", place.size());
  }
  next_ = place.front();
  return {};
}

}  // namespace krait::train
