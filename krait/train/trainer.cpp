#include "krait/train/trainer.h"

#include <chrono>
#include <cstring>
#include <numeric>
#include <utility>

#include "krait/train/layered_gradients.h"

namespace krait::train {
namespace {

std::vector<std::byte> to_bytes(std::span<const std::uint64_t> numbers) {
  std::vector<std::byte> bytes(numbers.size_bytes());
  std::memcpy(bytes.data(), numbers.data(), bytes.size());
  return bytes;
}

Result<std::vector<std::uint64_t>> to_numbers(const TensorView& view) {
  if (view.bytes.size() % sizeof(std::uint64_t) != 0) {
    return fail(ErrorCode::kCorrupt, "[train] {} bytes are no list of numbers", view.bytes.size());
  }
  std::vector<std::uint64_t> numbers(view.bytes.size() / sizeof(std::uint64_t));
  std::memcpy(numbers.data(), view.bytes.data(), view.bytes.size());
  return numbers;
}

Result<std::vector<std::uint64_t>> counters_of(const Checkpoint& checkpoint) {
  KRAIT_ASSIGN(const TensorView counted, checkpoint.view(state_name("counters", BlobStateProvider::kBlob)));
  return to_numbers(counted);
}

}  // namespace

Result<std::int64_t> trainer_steps(const Checkpoint& checkpoint) {
  KRAIT_ASSIGN(const std::vector<std::uint64_t> counters, counters_of(checkpoint));
  if (counters.empty()) return fail(ErrorCode::kCorrupt, "[train] a checkpoint without counters");
  return static_cast<std::int64_t>(counters.front());
}

nn::Batch model_batch(const Batch& batch) {
  nn::Batch result;
  result.pooled = batch.pooled;
  for (const BatchSegment& segment : batch.segments) {
    if (segment.padding) continue;
    result.segments.push_back({segment.first, segment.rows});
    result.prefixes.push_back(segment.prefix);
  }
  return result;
}

nn::Batch step_batch(const Batch& batch, double divisor, std::uint64_t pass) {
  nn::Batch result = model_batch(batch);
  result.own_losses = static_cast<double>(batch.labelled()) / divisor;
  result.pass = pass;
  return result;
}

Trainer::Trainer(nn::LanguageModel& model, BatchSource& source, const TrainerOptions& options, TrainerMemory memory)
    : model_(model),
      source_(source),
      options_(options),
      layered_(memory.layered),
      optimiser_(model, options.optimiser, std::move(memory.state)) {}

Result<StepReport> Trainer::step() {
  const auto start = std::chrono::steady_clock::now();
  StepReport report{.step = step_, .rate = options_.schedule.rate(step_)};
  std::vector<Batch> batches;
  for (std::int64_t i = 0; i < options_.accumulation; ++i) {
    KRAIT_ASSIGN(Batch batch, source_.next());
    report.tokens += batch.tokens();
    report.labels += batch.labelled();
    batches.push_back(std::move(batch));
  }
  if (reduction_ != nullptr) KRAIT_TRY(reduction_->sum_counts(report));
  // Each batch's loss is its share of the mean over all labels of the step.
  const auto divisor = static_cast<double>(std::max<std::int64_t>(1, report.labels));
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const Batch& batch = batches[i];
    const nn::Batch rows = step_batch(batch, divisor, static_cast<std::uint64_t>(step_) * batches.size() + i);
    if (layered_ != nullptr) {
      report.loss += layered_->run(batch, rows, options_.loss, divisor);
      continue;
    }
    const nn::TokenLossResult loss = model_.loss(batch.ids, batch.labels, rows, {}, options_.loss, divisor);
    report.loss += loss.loss.to(at::kDouble).item<double>();
    loss.loss.backward();
  }
  if (reduction_ != nullptr) KRAIT_TRY(reduction_->sum_gradients(model_, report));
  if (before_update_) before_update_();
  const OptimiserStep taken = optimiser_.step(report.rate);
  report.taken = taken.taken;
  report.gradient_norm = taken.norm;
  ++step_;
  tokens_ += static_cast<std::uint64_t>(report.tokens);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

std::vector<std::unique_ptr<StateProvider>> Trainer::state_providers() const {
  std::vector<std::unique_ptr<StateProvider>> providers = optimiser_.providers();
  providers.push_back(std::make_unique<BlobStateProvider>("data_place", [this] { return to_bytes(source_.place()); }));
  providers.push_back(std::make_unique<BlobStateProvider>("counters", [this] { return to_bytes(counters()); }));
  return providers;
}

std::vector<std::uint64_t> Trainer::counters() const {
  return {static_cast<std::uint64_t>(step_), static_cast<std::uint64_t>(optimiser_.steps()), tokens_};
}

Result<void> Trainer::restore(const Checkpoint& checkpoint) {
  for (const auto& provider : optimiser_.providers()) {
    KRAIT_TRY(restore_tensors(checkpoint, *provider));
  }
  KRAIT_ASSIGN(const TensorView place, checkpoint.view(state_name("data_place", BlobStateProvider::kBlob)));
  KRAIT_ASSIGN(const std::vector<std::uint64_t> numbers, to_numbers(place));
  KRAIT_ASSIGN(const std::vector<std::uint64_t> counters, counters_of(checkpoint));
  return set_progress(numbers, counters);
}

Result<void> Trainer::set_progress(std::span<const std::uint64_t> place, std::span<const std::uint64_t> counters) {
  KRAIT_TRY(source_.seek(place));
  if (counters.size() != 3) {
    return fail(ErrorCode::kCorrupt, "[train] a checkpoint has 3 counters, here are {}", counters.size());
  }
  step_ = static_cast<std::int64_t>(counters[0]);
  optimiser_.set_steps(static_cast<std::int64_t>(counters[1]));
  tokens_ = counters[2];
  return {};
}

}  // namespace krait::train
