// Self-pretraining (Amos et al. 2024, "Never train from scratch", ICLR): before a model learns a task it learns to say
// the task's own inputs, those of training alone and without their labels; then it is fine-tuned from there.
//
//   [pretrain]
//   steps = 400                 before those of [train]
//   objective = "masked"        hidden places are restored, reading in both directions; "causal": the next token is
//   said share = 0.5                 of the places are hidden; as the paper has it for the task unless given span = 1
//   places that are hidden together rate = 1e-3                 as in [train] unless given, and warm_up too; the
//   schedule has [train]'s shape
//
// A hidden place reads as a token of its own, the one after the task's last.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "krait/train/batch_source.h"
#include "krait/train/config_file.h"
#include "krait/train/objective_masked.h"
#include "krait/train/trainer.h"

namespace krait::train {

struct PretrainingOptions {
  std::int64_t steps = 0;                           // 0: none
  bool masked = true;                               // false: causal
  MaskedPlaces places = {.share = 0.0, .span = 1};  // share 0: the task's
  double rate = 0.0;                                // 0: that of training
  std::int64_t warm_up = -1;                        // -1: that of training
};

PretrainingOptions read_pretraining(ConfigTable table);

// How the trainer of this phase is set up. No average is kept in it: training begins where it ends.
TrainerOptions pretraining_trainer(const PretrainingOptions& options, const TrainerOptions& training);

// The inputs of another source with labels of their own.
class PretrainingSource final : public BatchSource {
 public:
  // `mask` is the token that hides a place. What is hidden depends on the seed and the number of the row, among those
  // of all processes of `loader`.
  PretrainingSource(std::unique_ptr<BatchSource> inputs, const PretrainingOptions& options, std::int32_t mask,
                    const DataLoaderOptions& loader);
  Result<Batch> next() override;
  std::vector<std::uint64_t> place() const override;
  Result<void> seek(std::span<const std::uint64_t> place) override;

 private:
  std::unique_ptr<BatchSource> inputs_;
  PretrainingOptions options_;
  std::int32_t mask_;
  std::uint64_t seed_;
  std::int64_t rank_, ranks_;
  std::uint64_t batches_ = 0;  // that were given
};

}  // namespace krait::train
