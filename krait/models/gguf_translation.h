// Between a checkpoint in transformers' layout and the same as GGUF has it, tensor by tensor and key by key. What an
// architecture says to it is one table for both directions: every line names a tensor or a key as transformers calls it
// and as GGUF does, and what is between the two. Errors are sticky, as in WeightLoader: a translation reads like a
// list. Every tensor must be taken, so that nothing gets lost unnoticed.
//
// To GGUF, matrices keep their dtype and are views into the source where nothing changes; norms, convolutions, biases,
// A and D are f32, as llama.cpp's operators demand. From GGUF, these stay f32, and matrices are of the dtype that was
// asked for, else of their own, or bf16 where their own are blocks.
#pragma once

#include <initializer_list>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/formats/weight_source.h"
#include "krait/models/translated_source.h"

namespace krait::models {

// Rows of a matrix in transformers' layout, in the order in which a matrix of GGUF has them.
struct GgufRows {
  std::string gguf;
  std::vector<std::int64_t> order;
};

// What lies between a vector here and there.
struct VectorChange {
  bool optional = false;                     // taken only where it is there
  float added = 0.0F;                        // GGUF's is so much more
  float factor = 1.0F;                       // to GGUF: of the values
  bool decay = false;                        // GGUF's is -exp of it
  Shape shape = {}, gguf_shape = {};         // where they differ; empty: as the source has it
  std::span<const std::int64_t> order = {};  // value i of GGUF is number order[i]
};

class GgufTranslation {
 public:
  enum class Direction { kToGguf, kFromGguf };

  // `architecture`: GGUF's name. `matrices`: their dtype, from GGUF alone.
  GgufTranslation(std::shared_ptr<const formats::WeightSource> source, Direction direction, std::string architecture,
                  std::optional<DType> matrices = {});

  bool to_gguf() const { return direction_ == Direction::kToGguf; }
  // Whether the source has a tensor, whichever of its names counts there; and its shape, empty when not.
  bool has(std::string_view name, std::string_view gguf) const;
  Shape shape(const std::string& name, const std::string& gguf) const;
  // The dtype in which a matrix of the source is written.
  DType written_dtype_of(const std::string& name, const std::string& gguf) const;
  const formats::Config& source_config() const { return source_->config(); }
  std::string gguf_key(std::string_view key) const { return fmt::format("{}.{}", architecture_, key); }

  // A matrix as it stands, times a factor to GGUF. A GGUF may have a ".scale" beside a weight: from GGUF it goes into
  // the matrix, or nowhere if its engines leave it aside (`scales` false).
  void matrix(const std::string& name, const std::string& gguf, float factor = 1.0F, bool scales = true);
  // To GGUF, row i times factors[i] (empty: 1).
  void matrix_of_factors(const std::string& name, const std::string& gguf, std::span<const float> factors);
  // One matrix here, or stack [E, N, K] of matrices, and the parts of it there: each row of it is in one of them.
  void matrix_of_rows(const std::string& name, std::span<const GgufRows> parts, bool scales = true);
  // Rows of queries or keys from halves to neighbours: of every head's first `rotary` rows, (i, i + rotary/2) stand
  // as (2i, 2i + 1) there. Matrix and bias.
  void rotary_rows(const std::string& name, const std::string& gguf, std::int64_t heads, std::int64_t width,
                   std::int64_t rotary);
  // Matrices with {} in their name replaced by 0 … count - 1 here, one stack there.
  void stack(std::string_view pattern, const std::string& gguf, std::int64_t count);
  void vector(const std::string& name, const std::string& gguf, const VectorChange& change = {});
  // Vectors of one shape here, one after the other in a tensor there.
  void vectors(std::span<const std::string> names, const std::string& gguf, const Shape& shape,
               const Shape& gguf_shape);
  // The scale beside a matrix of a GGUF, 1 where there is none or to GGUF.
  float gguf_scale(const std::string& gguf);
  // A tensor of the source that has no place on the other side on purpose: a tied head, another model's part.
  void leave_out(const std::string& name) { taken_.insert(name); }

  // A key there, under the architecture's name, and here; an empty name is no key. GGUF's numbers are f32: here they
  // stand in as few digits as give the same f32.
  void set(std::string_view gguf, std::string_view name, formats::Config::Value value);
  // A key of the side that is written, as it is called.
  void set_written(const std::string& key, formats::Config::Value value) { config_.set(key, std::move(value)); }

  void refuse(ErrorCode code, std::string message);
  bool failed() const { return error_.has_value(); }

  // The checkpoint, once everything was taken.
  Result<std::shared_ptr<const formats::WeightSource>> finish();

 private:
  const formats::TensorInfo* take(const std::string& name);
  DType written_dtype(const formats::TensorInfo& info) const;
  std::vector<float> scales_of(const std::string& gguf, std::int64_t count);
  void slice(const std::string& name, const std::string& gguf, std::int64_t index, std::span<const float> scales);

  std::shared_ptr<const formats::WeightSource> source_;
  Direction direction_;
  std::string architecture_;
  std::optional<DType> matrices_;
  std::shared_ptr<TranslatedSource> made_;
  formats::Config config_;
  std::optional<Error> error_;
  std::set<std::string, std::less<>> taken_;
};

}  // namespace krait::models
