// A checkpoint with its weight matrices in few bits: krait's own low-bit tensors (layout in weight_packing.h and
// docs/formats.md) in the place of the matrices, everything else as it is.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "krait/core/error.h"
#include "krait/formats/weight_source.h"
#include "krait/kernels/panels.h"

namespace krait::models {

// Which tensors are matrices is what the architecture's loader says. `progress(done, total)` counts them and may return
// false to stop (kCancelled). kUnsupported for a GGUF, whose tensors have other names, and for a checkpoint that is
// quantized already. The configuration of the result is the original one: quantized_config() writes the new one.
Result<std::unique_ptr<formats::WeightSource>> quantize_checkpoint(
    std::shared_ptr<const formats::WeightSource> source, kernels::PanelFormat format,
    const std::function<bool(std::int64_t, std::int64_t)>& progress);

// config.json of the new checkpoint from the text of the old one.
Result<std::string> quantized_config(std::string_view config, kernels::PanelFormat format);

}  // namespace krait::models
