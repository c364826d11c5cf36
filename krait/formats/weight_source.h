// A checkpoint on disk, whichever format it has: a configuration and named tensors.
// Formats: safetensors (one file or shards with an index), GGUF, PyTorch's zip-pickle.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/tensor_view.h"
#include "krait/formats/config.h"

namespace krait::formats {

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;  // row-major; GGUF's reversed dimensions are put right
  std::uint64_t bytes = 0;
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  virtual std::string_view format() const = 0;  // "safetensors", "gguf", "torch"
  virtual const Config& config() const = 0;
  virtual std::span<const TensorInfo> tensors() const = 0;  // sorted by name
  // The bytes of a tensor, valid while the source lives: a view into the mapped file. kNotFound names the tensor
  // and the source.
  virtual Result<TensorView> view(std::string_view name) const = 0;

  // `count` rows (along the last dimension) of a tensor, from `first` on, as f32 into `out`. Block types need whole
  // blocks to a row. A source that makes its tensors up need not hold the whole one for this.
  virtual Result<void> read_rows(const TensorInfo& tensor, std::int64_t first, std::int64_t count,
                                 std::span<float> out) const;
  // Says that a tensor's bytes are not needed for now: they may be given back to the system until they are viewed
  // again.
  virtual void release(std::string_view) const {}

  // Where it came from, for messages.
  virtual std::string origin() const = 0;

  const TensorInfo* find(std::string_view name) const;
};

// Opens a checkpoint:
//   a directory    config.json (or params.json) and model.safetensors.index.json, model.safetensors, a single other
//                  *.safetensors, pytorch_model.bin.index.json or pytorch_model.bin, tried in this order; or one *.gguf
//   *.gguf         GGUF
//   *.safetensors  that file, with config.json (or params.json) beside it
//   *.bin, *.pt, *.pth   the same; without either the configuration is empty, since some of them never had one
Result<std::unique_ptr<WeightSource>> open_weights(const std::filesystem::path& path);

// What a folder says of a checkpoint whose weights need not be there: its configuration, and the names of its tensors
// where an index of shards has them.
struct CheckpointOutline {
  Config config;
  std::vector<std::string> names;
};
Result<CheckpointOutline> read_outline(const std::filesystem::path& directory);

// Converts plain types and dequantises block types. `out` must have as many elements as the view
// (kInvalidArgument otherwise). Integer and boolean types become their value as a float.
Result<void> read_as_f32(const TensorView& view, std::span<float> out);

}  // namespace krait::formats
