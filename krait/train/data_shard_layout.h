// The first 128 bytes of a token shard, and where its parts lie; shared by writer and reader.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace krait::train {

inline constexpr std::array<char, 8> kShardMagic = {'K', 'R', 'A', 'I', 'T', 'T', 'K', '\n'};
inline constexpr std::uint32_t kShardEndianness = 0x01020304;
inline constexpr std::uint64_t kShardAlignment = 64;
inline constexpr std::int64_t kShardNarrowVocabulary = 65536;  // the most whose tokens fit in 16 bits

struct ShardPrelude {
  std::array<char, 8> magic = kShardMagic;
  std::uint32_t endianness = kShardEndianness;  // as the writing machine stores it
  std::uint32_t version = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t tokens = 0;
  std::uint64_t documents = 0;
  std::uint64_t provenance_bytes = 0;
  std::uint32_t vocabulary = 0;
  std::uint32_t token_bytes = 0;     // 2 or 4
  std::uint64_t tokenizer_high = 0;  // formats/content_identity.h; zero: unknown
  std::uint64_t tokenizer_low = 0;
  std::uint32_t tokens_crc32c = 0;
  std::uint32_t borders_crc32c = 0;
  std::uint32_t provenance_crc32c = 0;
  std::array<std::uint32_t, 10> reserved{};
  std::uint32_t prelude_crc32c = 0;  // of the 124 bytes before it

  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(this, 1)); }
  std::span<const std::byte> checked_bytes() const { return bytes().first(124); }
};
static_assert(sizeof(ShardPrelude) == 128 && std::is_trivially_copyable_v<ShardPrelude>);
static_assert(std::endian::native == std::endian::little, "token shards are written as they stand in memory");

// Where the parts of a shard begin. Each number is below 2^60 for the prelude to be believed, so no sum overflows.
struct ShardParts {
  std::uint64_t tokens, borders, provenance, end;

  explicit ShardParts(const ShardPrelude& prelude)
      : tokens(sizeof prelude),
        borders(aligned(tokens + prelude.tokens * prelude.token_bytes)),
        provenance(aligned(borders + (prelude.documents + 1) * sizeof(std::uint64_t))),
        end(provenance + prelude.provenance_bytes) {}

  static std::uint64_t aligned(std::uint64_t offset) {
    return (offset + kShardAlignment - 1) / kShardAlignment * kShardAlignment;
  }
};

}  // namespace krait::train
