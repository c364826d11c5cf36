// The numbers that GGUF gives to the types of metadata values, of tensors and of tokens (github.com/ggml-org/ggml,
// docs/gguf.md and enum ggml_type of ggml.h), for its reader and its writer.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "krait/core/dtype.h"

namespace krait::formats {

enum GgufType : std::uint32_t {
  kGgufUint8,
  kGgufInt8,
  kGgufUint16,
  kGgufInt16,
  kGgufUint32,
  kGgufInt32,
  kGgufFloat32,
  kGgufBool,
  kGgufString,
  kGgufArray,
  kGgufUint64,
  kGgufInt64,
  kGgufFloat64,
  kGgufTypeCount,
};

// tokenizer.ggml.token_type.
inline constexpr std::int64_t kGgufNormalToken = 1, kGgufUnknownToken = 2, kGgufControlToken = 3,
                              kGgufUserDefinedToken = 4, kGgufUnusedToken = 5, kGgufByteToken = 6;

struct GgufTensorType {
  std::uint32_t number;
  DType dtype;
};

// What core/dtype.h knows of ggml_type.
inline constexpr std::array kGgufTensorTypes = {
    GgufTensorType{0, DType::kF32},   GgufTensorType{1, DType::kF16},   GgufTensorType{2, DType::kQ4_0},
    GgufTensorType{8, DType::kQ8_0},  GgufTensorType{12, DType::kQ4_K}, GgufTensorType{13, DType::kQ5_K},
    GgufTensorType{14, DType::kQ6_K}, GgufTensorType{24, DType::kI8},   GgufTensorType{25, DType::kI16},
    GgufTensorType{26, DType::kI32},  GgufTensorType{27, DType::kI64},  GgufTensorType{28, DType::kF64},
    GgufTensorType{30, DType::kBF16},
};

constexpr std::optional<DType> gguf_dtype(std::uint32_t number) {
  for (const auto& type : kGgufTensorTypes) {
    if (type.number == number) return type.dtype;
  }
  return std::nullopt;
}

constexpr std::optional<std::uint32_t> gguf_type_number(DType dtype) {
  for (const auto& type : kGgufTensorTypes) {
    if (type.dtype == dtype) return type.number;
  }
  return std::nullopt;
}

constexpr std::uint32_t kGgufMaximumDimensions = 4;
constexpr std::int64_t kGgufDefaultAlignment = 32;

}  // namespace krait::formats
