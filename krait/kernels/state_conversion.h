// Stored states (state_storage.h) and pages of keys and values (kv_page.h) in another dtype, for states at rest: values
// are rounded to nearest, once. Scans round by chance instead, because they round at every token.
#pragma once

#include <cstddef>
#include <cstdint>

#include "krait/core/dtype.h"
#include "krait/kernels/kv_page.h"

namespace krait::kernels {

// [rows, width] of a state: state_bytes(from_dtype, …) bytes become state_bytes(to_dtype, …).
void convert_state(DType from_dtype, const std::byte* from, std::int64_t rows, std::int64_t width, DType to_dtype,
                   std::byte* to);

// One page: shape.page_bytes() of `shape` become those of the same shape in to_dtype.
void convert_kv_page(const KvShape& shape, const std::byte* from, DType to_dtype, std::byte* to);

}  // namespace krait::kernels
