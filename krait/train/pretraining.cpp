#include "krait/train/pretraining.h"

#include <algorithm>
#include <array>

#include "krait/train/random_stream.h"

namespace krait::train {

PretrainingOptions read_pretraining(ConfigTable table) {
  PretrainingOptions options;
  if (table.empty()) return options;
  table.require("steps");
  table.read("steps", options.steps, 1, std::int64_t{1} << 40);
  constexpr std::array<std::string_view, 2> kObjectives = {"masked", "causal"};
  std::string objective(kObjectives.front());
  table.read("objective", objective, kObjectives);
  options.masked = objective == kObjectives.front();
  table.read("rate", options.rate, 0.0, 1e3);
  table.read("warm_up", options.warm_up, 0, std::int64_t{1} << 40);
  table.read("share", options.places.share, 1e-6, 1.0);
  table.read("span", options.places.span, 1, 1 << 24);
  for (const char* key : {"share", "span"}) {
    if (!options.masked && table.has(key)) table.wrong(key, "says what is hidden, but objective is 'causal'");
  }
  return options;
}

TrainerOptions pretraining_trainer(const PretrainingOptions& options, const TrainerOptions& training) {
  TrainerOptions trainer = training;
  trainer.schedule.steps = options.steps;
  if (options.rate > 0.0) trainer.schedule.peak = options.rate;
  if (options.warm_up >= 0) trainer.schedule.warm_up = options.warm_up;
  trainer.optimiser.average_decay = 0.0;
  return trainer;
}

PretrainingSource::PretrainingSource(std::unique_ptr<BatchSource> inputs, const PretrainingOptions& options,
                                     std::int32_t mask, const DataLoaderOptions& loader)
    : inputs_(std::move(inputs)),
      options_(options),
      mask_(mask),
      seed_(loader.seed),
      rank_(loader.rank),
      ranks_(loader.ranks) {}

Result<Batch> PretrainingSource::next() {
  KRAIT_ASSIGN(Batch batch, inputs_->next());
  std::ranges::fill(batch.labels, kNoLabel);
  batch.pooled = false;  // what is hidden is asked place by place
  const std::uint64_t first_row = (batches_ * static_cast<std::uint64_t>(ranks_) + static_cast<std::uint64_t>(rank_)) *
                                  static_cast<std::uint64_t>(batch.batch);
  for (BatchSegment& segment : batch.segments) {
    if (segment.padding) continue;
    const std::span ids(batch.ids.begin() + segment.first, static_cast<std::size_t>(segment.rows));
    const auto labels = batch.labels.begin() + segment.first;
    segment.prefix = 0;
    if (options_.masked) {
      const auto row = first_row + static_cast<std::uint64_t>(segment.first / batch.length);
      const auto place = static_cast<std::uint64_t>(segment.first % batch.length);
      Random random = random_stream(seed_, {stream_name("pretraining"), row, place});
      const Example hidden = masked_tokens(ids, options_.places, mask_, random);
      std::ranges::copy(hidden.ids, ids.begin());
      std::ranges::copy(hidden.labels, labels);
      segment.prefix = hidden.prefix;
    } else {
      std::ranges::copy(ids.subspan(1), labels);
    }
  }
  ++batches_;
  return batch;
}

std::vector<std::uint64_t> PretrainingSource::place() const {
  std::vector<std::uint64_t> place = inputs_->place();
  place.push_back(batches_);
  return place;
}

Result<void> PretrainingSource::seek(std::span<const std::uint64_t> place) {
  if (place.empty()) return fail(ErrorCode::kCorrupt, "[train] the place in pretraining has no numbers");
  batches_ = place.back();
  return inputs_->seek(place.first(place.size() - 1));
}

}  // namespace krait::train
