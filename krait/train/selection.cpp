#include "krait/train/selection.h"

#include <algorithm>
#include <cstring>

namespace krait::train {
namespace {

constexpr const char* kProvider = "selection";

// As a checkpoint of the same machine has it.
struct Stored {
  std::int64_t without_better = 0, has_best = 0, step = 0, examples = 0, is_task = 0, has_test = 0;
  double loss = 0.0, accuracy = 0.0, exact_match = 0.0, test_accuracy = 0.0;
};

// Higher is better.
double score(const EvaluationReport& report) { return report.is_task ? report.accuracy : -report.loss; }

}  // namespace

bool Selection::is_better(const EvaluationReport& report) const { return !best_ || score(report) > score(*best_); }

void Selection::add(const EvaluationReport& report) {
  if (is_better(report)) {
    best_ = report;
    without_better_ = 0;
  } else {
    ++without_better_;
  }
}

std::vector<std::byte> Selection::bytes() const {
  Stored stored{.without_better = without_better_, .has_best = best_.has_value() ? 1 : 0};
  if (best_) {
    stored.step = best_->step;
    stored.examples = best_->examples;
    stored.is_task = best_->is_task ? 1 : 0;
    stored.loss = best_->loss;
    stored.accuracy = best_->accuracy;
    stored.exact_match = best_->exact_match;
    stored.has_test = best_->test_accuracy.has_value() ? 1 : 0;
    stored.test_accuracy = best_->test_accuracy.value_or(0.0);
  }
  const auto view = std::as_bytes(std::span(&stored, 1));
  return {view.begin(), view.end()};
}

Result<void> Selection::set(std::span<const std::byte> bytes) {
  Stored stored;
  if (bytes.size() != sizeof stored) {
    return fail(ErrorCode::kCorrupt, "[train] the best evaluation of a run has {} bytes, not {}", bytes.size(),
                sizeof stored);
  }
  std::memcpy(&stored, bytes.data(), sizeof stored);
  without_better_ = stored.without_better;
  best_.reset();
  if (stored.has_best == 0) return {};
  best_ = EvaluationReport{.step = stored.step,
                           .examples = stored.examples,
                           .is_task = stored.is_task != 0,
                           .loss = stored.loss,
                           .accuracy = stored.accuracy,
                           .exact_match = stored.exact_match,
                           .is_best = true};
  if (stored.has_test != 0) best_->test_accuracy = stored.test_accuracy;
  return {};
}

BlobStateProvider Selection::provider() const {
  return {kProvider, [this] { return bytes(); }};
}

Result<void> Selection::restore(const Checkpoint& checkpoint) {
  *this = {};
  const std::string name = state_name(kProvider, BlobStateProvider::kBlob);
  if (std::ranges::find(checkpoint.tensors(), name, &formats::TensorInfo::name) == checkpoint.tensors().end()) {
    return {};
  }
  KRAIT_ASSIGN(const TensorView view, checkpoint.view(name));
  return set(view.bytes);
}

Result<void> Selection::share(ProcessGroup& group) {
  std::vector<std::byte> shared = bytes();
  KRAIT_TRY(group.broadcast(shared));
  return set(shared);
}

}  // namespace krait::train
