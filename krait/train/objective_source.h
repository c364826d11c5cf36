// A run over documents by a mixture of objectives ([[objective]]): their batches, and held-out pieces that tell how
// each of them goes.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "krait/train/batch_source.h"
#include "krait/train/objective_held_out.h"
#include "krait/train/objective_loader.h"
#include "krait/train/train_config.h"

namespace krait::train {

class ObjectiveSource final : public BatchSource {
 public:
  explicit ObjectiveSource(ObjectiveLoader loader) : loader_(std::move(loader)) {}
  Result<Batch> next() override { return loader_.next(); }
  // Weights and counts as well as the cursor.
  std::vector<std::uint64_t> place() const override { return loader_.place(); }
  Result<void> seek(std::span<const std::uint64_t> place) override { return loader_.seek(place); }

  ObjectiveLoader& loader() { return loader_; }
  const ObjectiveLoader& loader() const { return loader_; }

 private:
  ObjectiveLoader loader_;
};

// The objectives of a configuration, with the special tokens that the tokenizer has for them. A name that stands twice
// is numbered: "infilling", "infilling 2". kInvalidArgument where an objective needs special tokens and no tokenizer is
// named, or one with which the shards were not made; kNotFound where it lacks them.
Result<std::vector<WeightedObjective>> open_objectives(const TrainDataConfig& config, const TokenCorpus& corpus);

Result<std::unique_ptr<ObjectiveSource>> open_objective_source(const TrainDataConfig& config,
                                                               std::vector<DataSource> sources);

// [[data.validation]] as each objective of the source asks for it; none where there is no validation.
Result<std::vector<HeldOutObjective>> open_held_out(const TrainDataConfig& config, const ObjectiveSource& source,
                                                    std::int64_t pieces);

}  // namespace krait::train
