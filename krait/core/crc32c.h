// CRC-32C (Castagnoli, RFC 3720 appendix B.4): tells that bytes were damaged. It finds every error of up to three bits
// and every burst of up to 32 bits in what krait stores; it is no protection against somebody who wants to deceive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace krait {
inline namespace core {

// Of bytes that follow others: pass what came out for those as `before`.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before = 0);

}  // namespace core
}  // namespace krait
