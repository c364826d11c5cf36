// Puts a checkpoint in transformers' layout together as GGUF has it, tensor by tensor. Errors are sticky, as in
// WeightLoader: a translation reads like a list. Every tensor must be taken, so that nothing gets lost unnoticed.
//
// Matrices keep their dtype and are views into the source where nothing changes; norms, convolutions, biases, A and D
// are f32, as llama.cpp's operators demand.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/error.h"
#include "krait/formats/weight_source.h"

namespace krait::models {

class GgufBuilder {
 public:
  GgufBuilder(std::shared_ptr<const formats::WeightSource> source, std::string architecture);

  const formats::WeightSource& source() const { return *source_; }
  const formats::Config& from() const { return source_->config(); }
  bool has(std::string_view name) const { return source_->find(name) != nullptr; }

  // A matrix as it stands, or one whose rows are chosen and multiplied: row i is factor[i] times row order[i]. Either
  // may be empty. Of a stack [E, N, K] the same rows of every slice.
  void matrix(const std::string& name, const std::string& to, std::span<const std::int64_t> order = {},
              std::span<const float> factors = {});
  // The same times one factor.
  void scaled_matrix(const std::string& name, const std::string& to, float factor);
  // Matrices with {} in their name replaced by 0 … count - 1, as one stack.
  void stack(std::string_view pattern, const std::string& to, std::int64_t count);
  // f32, as it stands but for `added`. Taken only where it is there if `optional`.
  void vector(const std::string& name, const std::string& to, bool optional = false, float added = 0.0F);
  // f32 with a shape of its own: of as many elements.
  void shaped(const std::string& name, const std::string& to, const Shape& shape);
  // -exp(A_log), the shape given or that of the tensor.
  void decay(const std::string& name, const std::string& to, const Shape& shape = {});
  // Rows of queries or keys from halves to neighbours: of every head's first `rotary` rows, (i, i + rotary/2) go to
  // (2i, 2i + 1). Matrix and bias.
  void rotary_rows(const std::string& name, const std::string& to, std::int64_t heads, std::int64_t width,
                   std::int64_t rotary);
  // A tensor that GGUF has no place for on purpose: a tied head, another model's part.
  void leave_out(const std::string& name) { taken_.insert(name); }

  // A key under the architecture's name.
  void set(std::string_view key, formats::Config::Value value);
  void set_general(const std::string& key, formats::Config::Value value) { config_.set(key, std::move(value)); }

  void refuse(ErrorCode code, std::string message);
  bool failed() const { return error_.has_value(); }

  // The checkpoint, once everything was taken.
  Result<std::shared_ptr<const formats::WeightSource>> finish();

 private:
  class Checkpoint;

  const formats::TensorInfo* take(const std::string& name);
  void put(const std::string& to, DType dtype, Shape shape, std::span<const std::byte> bytes);
  // f32 values of a tensor, in memory of the checkpoint.
  std::span<float> values(const formats::TensorInfo& info);
  std::span<std::byte> buffer(std::size_t bytes);

  std::shared_ptr<const formats::WeightSource> source_;
  std::string architecture_;
  formats::Config config_;
  std::optional<Error> error_;
  std::set<std::string, std::less<>> taken_;
  std::vector<formats::TensorInfo> tensors_;
  std::map<std::string, std::span<const std::byte>, std::less<>> bytes_;
  std::vector<AlignedBuffer> buffers_;
};

}  // namespace krait::models
