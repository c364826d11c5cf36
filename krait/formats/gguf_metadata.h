// The first half of a GGUF file: magic, version, counts and the typed key-value pairs
// (github.com/ggml-org/ggml, docs/gguf.md). Not the tensors: gguf.h.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "krait/core/error.h"
#include "krait/formats/config.h"

namespace krait::formats {

struct GgufHeader {
  Config metadata;
  std::uint64_t tensors = 0;  // as many as the file says; that there is room for them was checked
  std::size_t end = 0;        // where the descriptions of the tensors begin
};

// Integers of every width become int64 (kUnsupported above its maximum), floats double. Arrays become vectors; arrays
// of arrays are kept under indexed keys ("key.0"), as in JSON.
Result<GgufHeader> parse_gguf_header(std::span<const std::byte> file, const std::string& origin);

}  // namespace krait::formats
