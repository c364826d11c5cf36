// A checkpoint whose tensors are made from those of another one: rows rearranged, multiplied or put together, slices of
// stacks, other dtypes, or any function of small tensors. Each is made when it is viewed and kept until it is released,
// so that a checkpoint can be written that is larger than memory.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/formats/weight_source.h"

namespace krait::models {

// A source of rows: a matrix [rows, columns], or a stack of such matrices.
struct RowOrigin {
  std::string name;
  std::int64_t rows = 0;       // of one slice
  std::vector<float> factors;  // of every slice; empty: 1
};

// `count` rows of origin number `origin`, from `first` on, times `factor`.
struct RowRun {
  std::size_t origin = 0;
  std::int64_t first = 0, count = 0;
  float factor = 1.0F;
};

// What the rows of a tensor are: the runs one after the other, in each of `slices` slices.
struct RowPlan {
  std::vector<RowOrigin> origins;
  std::vector<RowRun> runs;
  std::int64_t slices = 1;
};

class TranslatedSource final : public formats::WeightSource {
 public:
  TranslatedSource(std::shared_ptr<const formats::WeightSource> source, std::string_view format);

  // f32, bf16 or f16 from any dtype; another dtype only as it stands. That the rows are there and as long as those of
  // `shape` is the caller's to check. A number that f16 does not hold is kInvalidArgument when the tensor is viewed.
  void add(const std::string& name, DType dtype, const Shape& shape, RowPlan plan);
  // f32 values of a tensor, changed by a function that may refuse them.
  using Change = std::function<Result<void>(std::span<float>)>;
  void add(const std::string& name, const Shape& shape, const std::string& from, Change change);
  // After the last tensor.
  void finish(formats::Config config);

  std::string_view format() const override { return format_; }
  const formats::Config& config() const override { return config_; }
  std::span<const formats::TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return source_->origin(); }
  Result<TensorView> view(std::string_view name) const override;
  void release(std::string_view name) const override;

 private:
  using Make = std::function<Result<void>(std::span<std::byte>)>;
  struct Recipe {
    std::string from;  // whose bytes from `offset` on these are, where nothing has to be made
    std::uint64_t offset = 0;
    Make make;
  };
  Result<void> make_rows(const RowPlan& plan, DType dtype, std::int64_t columns, std::span<std::byte> out) const;

  std::shared_ptr<const formats::WeightSource> source_;
  std::string_view format_;
  formats::Config config_;
  std::vector<formats::TensorInfo> tensors_;
  std::map<std::string, Recipe, std::less<>> recipes_;
  mutable std::mutex mutex_;  // of made_
  mutable std::map<std::string, AlignedBuffer, std::less<>> made_;
};

}  // namespace krait::models
