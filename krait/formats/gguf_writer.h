// Writes GGUF files, version 3 (the container of llama.cpp; github.com/ggml-org/ggml, docs/gguf.md), little-endian. The
// file appears under its name only when it is complete. Not a conversion: names, shapes and bytes of the tensors stand
// in the file as they are given; which ones an engine expects is the models' knowledge (models/gguf_checkpoint.h).
#pragma once

#include <filesystem>
#include <span>

#include "krait/core/error.h"
#include "krait/formats/config.h"
#include "krait/formats/tensor_queue.h"

namespace krait::formats {

// `metadata` as parse_gguf_metadata() would give it back. Engines insist on types that a Config does not tell apart, so
// the ones that GGUF's own keys have are chosen:
//   an integer    u32; i32 when negative; i64 when neither holds it      integers   i32, or i64 when one needs it
//   a number      f32                                                    numbers    f32
// booleans and texts are what they are, and an empty array of whatever a file did not say is one of i32.
//
// Tensors stand in the file in the order given, each at a multiple of 32 bytes or of metadata's "general.alignment".
// Block types are written as encoded; their rows must be whole blocks.
//
// kInvalidArgument for a dtype without a number in GGUF, bytes that do not fit the shape, more than four dimensions,
// a name longer than engines take, a doubled name, text that is not UTF-8, null metadata or a number beyond f32, an
// alignment that is no power of two, more than 2^31 bytes of header; kInputOutput from the disk.
Result<void> write_gguf(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                        const Config& metadata);

// All tensors of a source, by name, each viewed when its turn comes and released after: the file may be larger than
// memory. For sources that name tensors as GGUF does. kCancelled when `progress` says so.
Result<void> write_gguf(const std::filesystem::path& path, const WeightSource& source, const Config& metadata,
                        WriteProgress progress = {});
// The same with the source's own configuration.
Result<void> write_gguf(const std::filesystem::path& path, const WeightSource& source);

}  // namespace krait::formats
