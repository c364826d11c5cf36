// Stored weights (f32, bf16, f16; any alignment) as f32, and the way back to bf16.
#pragma once

#include <cstddef>
#include <cstdint>

#include "krait/core/dtype.h"

namespace krait::kernels {

// Bytes of one weight. Types a WeightMatrix cannot have fail a check.
std::int64_t weight_bytes(DType dtype);

// to[i] = from[i], exactly.
void widen(DType dtype, const std::byte* from, std::int64_t count, float* to);

// to[i] = f32_to_bf16(from[i]): to nearest, ties to even.
void narrow_to_bf16(const float* from, std::int64_t count, std::uint16_t* to);

}  // namespace krait::kernels
