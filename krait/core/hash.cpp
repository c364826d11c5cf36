#include "krait/core/hash.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace krait {
inline namespace core {

std::string Hash128::hex() const { return fmt::format("{:016x}{:016x}", high, low); }

std::optional<Hash128> Hash128::parse(std::string_view hex) {
  constexpr std::size_t kDigits = 16;
  if (hex.size() != 2 * kDigits) return std::nullopt;
  const auto half = [&](std::size_t first) -> std::optional<std::uint64_t> {
    std::uint64_t value = 0;
    const char* end = hex.data() + first + kDigits;
    const auto [stop, error] = std::from_chars(hex.data() + first, end, value, 16);
    if (error != std::errc() || stop != end) return std::nullopt;
    return value;
  };
  const auto high = half(0);
  const auto low = half(kDigits);
  if (!high || !low) return std::nullopt;
  return Hash128{*high, *low};
}

Hash128 hash128(std::span<const std::byte> bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.high64, hash.low64};
}

struct Hasher::State {
  XXH3_state_t xxh;
};

Hasher::Hasher() : state_(new State) { XXH3_128bits_reset(&state_->xxh); }
Hasher::~Hasher() = default;

void Hasher::feed(std::span<const std::byte> bytes) { XXH3_128bits_update(&state_->xxh, bytes.data(), bytes.size()); }

void Hasher::feed_text(std::string_view text) {
  feed_number(static_cast<std::uint64_t>(text.size()));
  feed(std::as_bytes(std::span(text)));
}

Hash128 Hasher::value() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->xxh);
  return {hash.high64, hash.low64};
}

Hash128 extend_prefix(Hash128 prefix, std::span<const std::int32_t> tokens) {
  std::byte bytes[sizeof(std::uint64_t) * 2 + sizeof(std::int32_t)];
  for (const std::int32_t token : tokens) {
    std::memcpy(bytes, &prefix.high, sizeof prefix.high);
    std::memcpy(bytes + 8, &prefix.low, sizeof prefix.low);
    std::memcpy(bytes + 16, &token, sizeof token);
    prefix = hash128(bytes);
  }
  return prefix;
}

}  // namespace core
}  // namespace krait
