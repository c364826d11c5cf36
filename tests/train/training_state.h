// The state of a small run for tests of checkpoints: tensors of several dtypes and blobs, all of whose bytes follow
// from a number, so that whoever reads a checkpoint can compute what it must hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "krait/core/random.h"
#include "krait/train/checkpoint_state.h"

namespace krait::tests {

class TrainingState {
 public:
  // `elements` of the largest tensor.
  explicit TrainingState(std::int64_t elements = 1000)
      : elements_(elements), weight_(4 * elements), moment_(4 * elements), average_(2 * elements), counts_(3 * 8) {
    using formats::NamedTensor;
    parameters_ = std::make_unique<train::TensorStateProvider>(
        "parameters", std::vector<NamedTensor>{{"layers.0.weight", {DType::kF32, {elements_}, weight_}},
                                               {"layers.0.none", {DType::kF32, {0, 7}, {}}}});
    moments_ = std::make_unique<train::TensorStateProvider>(
        "moments", std::vector<NamedTensor>{{"layers.0.weight", {DType::kF32, {1, elements_}, moment_}},
                                            {"average", {DType::kBF16, {elements_, 1}, average_}},
                                            {"counts", {DType::kI64, {3}, counts_}}});
    cursor_ = std::make_unique<train::BlobStateProvider>("cursor", [this] { return blob_; });
  }

  TrainingState(const TrainingState&) = delete;
  TrainingState& operator=(const TrainingState&) = delete;

  // Every byte, and the blob's length, as step `step` has them.
  void set(std::int64_t step) {
    Random random(static_cast<std::uint64_t>(step));
    blob_.resize(random.next() % 50);
    for (auto* bytes : {&weight_, &moment_, &average_, &counts_, &blob_}) {
      for (std::byte& byte : *bytes) byte = static_cast<std::byte>(random.next() >> 20);
    }
  }

  std::vector<const train::StateProvider*> providers() const {
    return {parameters_.get(), moments_.get(), cursor_.get()};
  }

  struct Expected {
    std::string name;
    DType dtype;
    Shape shape;
    std::span<const std::byte> bytes;
  };
  // Names sorted.
  std::vector<Expected> expected() const {
    return {{"cursor/state", DType::kU8, {static_cast<std::int64_t>(blob_.size())}, blob_},
            {"moments/average", DType::kBF16, {elements_, 1}, average_},
            {"moments/counts", DType::kI64, {3}, counts_},
            {"moments/layers.0.weight", DType::kF32, {1, elements_}, moment_},
            {"parameters/layers.0.none", DType::kF32, {0, 7}, {}},
            {"parameters/layers.0.weight", DType::kF32, {elements_}, weight_}};
  }

 private:
  std::int64_t elements_;
  std::vector<std::byte> weight_, moment_, average_, counts_, blob_;
  std::unique_ptr<train::TensorStateProvider> parameters_, moments_;
  std::unique_ptr<train::BlobStateProvider> cursor_;
};

}  // namespace krait::tests
