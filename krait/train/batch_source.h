// Where the batches of a run come from, one after the other without end: documents, a synthetic task, a mixture of
// objectives. A source's place is a list of whole numbers, from which it gives exactly the batches that would have
// come.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "krait/train/batch.h"
#include "krait/train/data_loader.h"
#include "krait/train/task.h"

namespace krait::train {

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // Each of `ranks` processes that train together has its own part of every step.
  virtual Result<Batch> next() = 0;
  virtual std::vector<std::uint64_t> place() const = 0;
  virtual Result<void> seek(std::span<const std::uint64_t> place) = 0;
};

class CorpusSource final : public BatchSource {
 public:
  explicit CorpusSource(DataLoader loader) : loader_(std::move(loader)) {}
  Result<Batch> next() override { return loader_.next(); }
  std::vector<std::uint64_t> place() const override { return loader_.cursor().numbers(); }
  Result<void> seek(std::span<const std::uint64_t> place) override;

 private:
  DataLoader loader_;
};

// Of a task that has so many examples and no more, each epoch gives them all, in an order of its own.
class TaskSource final : public BatchSource {
 public:
  TaskSource(std::shared_ptr<const Task> task, std::uint64_t seed, std::int64_t batch, std::int64_t rank = 0,
             std::int64_t ranks = 1);
  Result<Batch> next() override;
  std::vector<std::uint64_t> place() const override { return {next_}; }
  Result<void> seek(std::span<const std::uint64_t> place) override;

 private:
  std::shared_ptr<const Task> task_;
  std::uint64_t seed_;
  std::int64_t batch_, rank_, ranks_;
  std::uint64_t next_ = 0;  // examples given to all processes so far
};

}  // namespace krait::train
