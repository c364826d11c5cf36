// Writes a checkpoint anew with its weight matrices in few bits: krait's own low-bit safetensors (layout in
// weight_packing.h and docs/formats.md). Everything else of it stays as it is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>

#include "krait/core/error.h"
#include "krait/formats/weight_source.h"
#include "krait/kernels/panels.h"

namespace krait::models {

struct QuantizedSizes {
  std::int64_t matrices = 0;
  std::uint64_t bytes_before = 0;  // of all tensors
  std::uint64_t bytes_after = 0;
};

// Writes `file` (safetensors). Which tensors are matrices is what the architecture's loader says. `progress(done,
// total)` counts matrices and may return false to stop (kCancelled). kUnsupported for a GGUF, whose tensors have other
// names, and for a checkpoint that is quantized already.
Result<QuantizedSizes> write_quantized(std::shared_ptr<const formats::WeightSource> source, kernels::PanelFormat format,
                                       const std::filesystem::path& file,
                                       const std::function<bool(std::int64_t, std::int64_t)>& progress);

// config.json of the new checkpoint from the text of the old one.
Result<std::string> quantized_config(std::string_view config, kernels::PanelFormat format);

}  // namespace krait::models
