// Reads a model's configuration and tensors from any weight source and keeps them in memory.
//
// Errors are sticky: the first one is kept, later calls return empty values, and the model's loader asks error()
// once at the end. That lets a model file read like a list of its tensors.
//
// A tensor is named twice, as the Hugging Face or original checkpoint has it and as GGUF has it; which one
// applies is known from the source.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/error.h"
#include "krait/formats/weight_source.h"
#include "krait/kernels/matmul.h"
#include "krait/models/model.h"
#include "krait/models/weight_arena.h"
#include "krait/models/weight_packing.h"

namespace krait::models {

class PlannedSource;

struct LoadOptions {
  // Of the weight matrices in memory. Nothing keeps the file's, whatever can be computed on as it is.
  std::optional<kernels::PanelFormat> weights;
  // f32, bf16 and f16 matrices are used where a mapped file has them, without a copy: slower, but a model larger than
  // the memory runs.
  bool in_place = false;
  // Multiply GGUF weights with f32 activations, rather than with activations rounded as the format's own engine does.
  bool exact_activations = false;
  // Of recurrent states: f32, bf16 or i8 (kernels/state_storage.h).
  DType state_dtype = DType::kF32;
  // Of keys and values: f32, bf16 or i8 (kernels/kv_page.h).
  DType kv_dtype = DType::kF32;
  // Only check names and shapes: info() and state_layout() of the model are valid, forward() must not be called.
  bool shapes_only = false;
  // Is told all names and shapes; the source itself, with shapes_only. See planned_source.h.
  PlannedSource* plan = nullptr;
};

// Owns what the views of a model point into.
struct LoadedWeights {
  std::shared_ptr<const formats::WeightSource> source;
  WeightArena arena;
  std::vector<AlignedBuffer> buffers;
};

// How a matrix stands in its tensor, and what it costs.
struct MatrixOptions {
  MatrixRows rows = {};
  double read_share = 1.0;  // of the tokens that need it: of one expert of several, less than 1
  bool gguf_scale = true;   // whether a scale beside a GGUF's weight counts; llama.cpp leaves some aside
};

class WeightLoader {
 public:
  // With options.shapes_only nothing is read: names, shapes and sizes are checked and counted, all pointers are null.
  WeightLoader(std::shared_ptr<const formats::WeightSource> source, const LoadOptions& options);

  bool is_gguf() const { return source_->format() == "gguf"; }
  const formats::Config& config() const { return source_->config(); }
  std::string origin() const { return source_->origin(); }
  DType state_dtype() const { return options_.state_dtype; }
  DType kv_dtype() const { return options_.kv_dtype; }

  // Configuration. Sizes must lie in 1 … 2^24.
  std::int64_t size(std::string_view key);
  std::int64_t size_or(std::string_view key, std::int64_t fallback);
  // The same, but 0 is allowed: counts and offsets.
  std::int64_t offset_or(std::string_view key, std::int64_t fallback);
  double number_or(std::string_view key, double fallback);
  bool boolean_or(std::string_view key, bool fallback);
  std::optional<bool> boolean_if_present(std::string_view key);
  std::string text_or(std::string_view key, std::string fallback);

  bool has(std::string_view name) const { return source_->find(actual(name)) != nullptr; }
  // From here on `name` stands for a tensor that the checkpoint calls otherwise: one model, several spellings.
  void alias(std::string name, std::string actual) { aliases_[std::move(name)] = std::move(actual); }
  // Rows of the embedding: the table's own length counts, not the configured one, since original checkpoints pad it.
  std::int64_t vocabulary(const std::string& embedding);
  // Whether tensors are only planned, and shape() knows nothing.
  bool planning() const { return options_.plan != nullptr; }
  // Dimensions of a tensor; an error (and an empty shape) when it is missing.
  Shape shape(const std::string& name);

  // A weight matrix [rows, columns]. Dimensions of length 1 in the file do not matter ([C, 1, K] is [C, K]).
  kernels::WeightMatrix matrix(const std::string& name, std::int64_t rows, std::int64_t columns,
                               const MatrixOptions& options = {});
  // An embedding or a head: not streamed for every token, so count_head() decides what it costs.
  kernels::WeightMatrix embedding(const std::string& name, std::int64_t rows, std::int64_t columns);
  // `count` values as f32, in whatever shape they stand.
  float* vector(const std::string& name, std::int64_t count);
  // A matrix [rows, columns] as f32, transposed to [columns, rows].
  float* transposed(const std::string& name, std::int64_t rows, std::int64_t columns);
  // Whether a matrix may have so many rows: to be asked before a list of them is made. An error when not.
  bool rows_are_sound(const std::string& name, std::int64_t rows);
  // Adds 1 to `count` values of vector(), which may be null: norms of some models store w - 1.
  void add_one(float* values, std::int64_t count) const;
  // The taps [K, C] of a causal convolution over C channels, K at most what kernels/conv1d_causal.h takes.
  float* taps(const std::string& name, std::int64_t channels, std::int64_t width);
  // Says which matrix is the head: streamed once a token, be it the embedding itself (tied) or one of its own.
  void count_head(const kernels::WeightMatrix& head);

  // Says why rows of a step may change each other's bits (Model::batch_dependence); once for each reason.
  void note_batch_dependence(std::string_view why);

  void set_error(Error error);
  bool failed() const { return error_.has_value(); }
  const std::optional<Error>& error() const { return error_; }

  // Fills the sums of `info` and hands over the memory.
  LoadedWeights finish(ModelInfo& info);

 private:
  std::string actual(std::string_view name) const {
    const auto found = aliases_.find(name);
    return found == aliases_.end() ? std::string(name) : found->second;
  }
  kernels::WeightMatrix read_matrix(const std::string& name, std::int64_t rows, std::int64_t columns,
                                    const MatrixOptions& options);
  std::optional<TensorView> read(const std::string& name, std::span<const std::int64_t> expected,
                                 bool any_shape = false, bool bytes = true);
  float* widened(const TensorView& view, const std::string& name, std::int64_t count);
  template <class T>
  T take(Result<T> result, T fallback);

  std::shared_ptr<const formats::WeightSource> source_;
  LoadOptions options_;
  std::optional<kernels::PanelFormat> low_bit_;  // of krait's own low-bit files
  std::optional<kernels::PanelFormat> weights_;  // of the first matrix
  std::unique_ptr<ThreadPool> pool_;             // for packing
  WeightArena arena_;
  std::vector<AlignedBuffer> buffers_;
  std::vector<std::string> matrices_;
  std::string batch_dependence_;
  std::map<std::string, std::string, std::less<>> aliases_;
  std::optional<Error> error_;
  std::int64_t parameters_ = 0;
  std::uint64_t weight_bytes_ = 0;
  std::uint64_t streamed_bytes_ = 0;
  std::uint64_t flops_ = 0;
  std::uint64_t head_flops_ = 0;
};

// The tensors of one layer or mixer: two prefixes, one for each naming.
class WeightScope {
 public:
  WeightScope(WeightLoader& loader, std::string prefix, std::string gguf_prefix)
      : loader_(loader), prefix_(std::move(prefix)), gguf_prefix_(std::move(gguf_prefix)) {}

  WeightLoader& loader() const { return loader_; }
  // A scope one level down in the checkpoint's naming; GGUF's names are flat.
  WeightScope inside(const std::string& part) const { return {loader_, prefix_ + part, gguf_prefix_}; }

  std::string name(std::string_view tensor, std::string_view gguf_tensor) const;
  bool has(std::string_view tensor, std::string_view gguf_tensor) const {
    return loader_.has(name(tensor, gguf_tensor));
  }
  kernels::WeightMatrix matrix(std::string_view tensor, std::string_view gguf_tensor, std::int64_t rows,
                               std::int64_t columns, const MatrixOptions& options = {}) const {
    return loader_.matrix(name(tensor, gguf_tensor), rows, columns, options);
  }
  float* vector(std::string_view tensor, std::string_view gguf_tensor, std::int64_t count) const {
    return loader_.vector(name(tensor, gguf_tensor), count);
  }
  float* vector_if_present(std::string_view tensor, std::string_view gguf_tensor, std::int64_t count) const {
    return has(tensor, gguf_tensor) ? vector(tensor, gguf_tensor, count) : nullptr;
  }
  // The same, but a checkpoint that is only planned has it: most do.
  float* vector_usually(std::string_view tensor, std::string_view gguf_tensor, std::int64_t count) const {
    return loader_.planning() ? vector(tensor, gguf_tensor, count) : vector_if_present(tensor, gguf_tensor, count);
  }
  float* transposed(std::string_view tensor, std::string_view gguf_tensor, std::int64_t rows,
                    std::int64_t columns) const {
    return loader_.transposed(name(tensor, gguf_tensor), rows, columns);
  }
  float* taps(std::string_view tensor, std::string_view gguf_tensor, std::int64_t channels, std::int64_t width) const {
    return loader_.taps(name(tensor, gguf_tensor), channels, width);
  }
  // The decay A = -exp(A_log) of `count` values; GGUF stores it ready-made.
  void negative_exponential(float* values, std::int64_t count) const;

 private:
  WeightLoader& loader_;
  std::string prefix_;
  std::string gguf_prefix_;
};

}  // namespace krait::models
