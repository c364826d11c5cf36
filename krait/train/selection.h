// The best evaluation of a run so far: what patience counts from, and what is told at the end. Part of a checkpoint, so
// that a run which goes on knows what it had.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "krait/train/checkpoint_reader.h"
#include "krait/train/checkpoint_state.h"
#include "krait/train/training_run.h"

namespace krait::train {

class Selection {
 public:
  // Whether it is better than all before; one that is as good is not.
  bool is_better(const EvaluationReport& report) const;
  void add(const EvaluationReport& report);
  const std::optional<EvaluationReport>& best() const { return best_; }
  std::int64_t without_better() const { return without_better_; }  // evaluations since the best

  // For checkpoints; where one has none, of an earlier version, nothing was evaluated yet.
  BlobStateProvider provider() const;
  Result<void> restore(const Checkpoint& checkpoint);
  // All processes get what rank 0 has.
  Result<void> share(ProcessGroup& group);

 private:
  std::vector<std::byte> bytes() const;
  Result<void> set(std::span<const std::byte> bytes);

  std::optional<EvaluationReport> best_;
  std::int64_t without_better_ = 0;
};

}  // namespace krait::train
