// A WeightSource over a list of named byte ranges: what the parser of every single-file format ends in.
// It is not a parser: whoever fills it has checked that each range lies within its file and fits its shape.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/formats/mapped_file.h"
#include "krait/formats/weight_source.h"

namespace krait::formats {

struct WeightEntry {
  TensorInfo info;
  std::span<const std::byte> bytes;
};

class WeightTable final : public WeightSource {
 public:
  struct Parts {
    std::string_view format;  // a literal: "safetensors", …
    std::string origin;
    Config config;
    std::vector<WeightEntry> entries;    // in any order
    MappedFile file;                     // what the ranges point into; empty when the caller keeps it alive
    std::vector<AlignedBuffer> buffers;  // the same, for tensors that had to be rearranged
  };

  // kCorrupt when a name occurs twice.
  static Result<std::unique_ptr<WeightSource>> create(Parts parts);

  std::string_view format() const override { return format_; }
  const Config& config() const override { return config_; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  Result<TensorView> view(std::string_view name) const override;
  void release(std::string_view name) const override;
  std::string origin() const override { return origin_; }

 private:
  explicit WeightTable(Parts parts);

  std::string_view format_;
  std::string origin_;
  Config config_;
  std::vector<TensorInfo> tensors_;                // sorted by name
  std::vector<std::span<const std::byte>> bytes_;  // parallel to tensors_
  MappedFile file_;
  std::vector<AlignedBuffer> buffers_;
};

}  // namespace krait::formats
