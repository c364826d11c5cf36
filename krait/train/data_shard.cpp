// Reads token shards.
#include "krait/train/data_shard.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "krait/core/check.h"
#include "krait/core/crc32c.h"
#include "krait/train/data_shard_layout.h"

namespace krait::train {
namespace {

Result<ShardPrelude> prelude_of(std::span<const std::byte> bytes, const std::string& origin) {
  ShardPrelude prelude;
  if (bytes.size() < sizeof prelude) {
    return fail(ErrorCode::kCorrupt, "[shard] {} bytes are fewer than the {} every token shard begins with ({})",
                bytes.size(), sizeof prelude, origin);
  }
  std::memcpy(&prelude, bytes.data(), sizeof prelude);
  if (prelude.magic != kShardMagic) {
    return fail(ErrorCode::kCorrupt, "[shard] this is no token shard: it does not begin with KRAITTK ({})", origin);
  }
  if (prelude.endianness != kShardEndianness) {
    return fail(ErrorCode::kUnsupported, "[shard] written on a machine of another byte order: mark {:08x} ({})",
                prelude.endianness, origin);
  }
  if (const auto crc = crc32c(prelude.checked_bytes()); crc != prelude.prelude_crc32c) {
    return fail(ErrorCode::kCorrupt, "[shard] the first 128 bytes are damaged: checksum {:08x}, not {:08x} ({})", crc,
                prelude.prelude_crc32c, origin);
  }
  if (prelude.version != kTokenShardVersion) {
    return fail(ErrorCode::kUnsupported, "[shard] format version {} is not the {} that this krait reads ({})",
                prelude.version, kTokenShardVersion, origin);
  }
  if (prelude.file_bytes != bytes.size()) {
    return fail(ErrorCode::kCorrupt, "[shard] {} bytes instead of {}: the file was cut or added to ({})", bytes.size(),
                prelude.file_bytes, origin);
  }
  const bool narrow = prelude.token_bytes == sizeof(std::uint16_t);
  if (!narrow && prelude.token_bytes != sizeof(std::uint32_t)) {
    return fail(ErrorCode::kCorrupt, "[shard] tokens of {} bytes ({})", prelude.token_bytes, origin);
  }
  if (prelude.vocabulary == 0 || prelude.vocabulary > std::numeric_limits<std::int32_t>::max() ||
      (narrow && prelude.vocabulary > kShardNarrowVocabulary)) {
    return fail(ErrorCode::kCorrupt, "[shard] a vocabulary of {} with tokens of {} bytes ({})", prelude.vocabulary,
                prelude.token_bytes, origin);
  }
  // Each alone before the sum, which then cannot overflow.
  const std::uint64_t most = bytes.size();
  if (prelude.tokens > most || prelude.documents > most || prelude.provenance_bytes > most ||
      ShardParts(prelude).end != most) {
    return fail(ErrorCode::kCorrupt,
                "[shard] {} tokens, {} documents and {} bytes of provenance do not make {} bytes ({})", prelude.tokens,
                prelude.documents, prelude.provenance_bytes, most, origin);
  }
  return prelude;
}

Result<void> check_part(std::string_view part, std::span<const std::byte> bytes, std::uint32_t expected,
                        const std::string& origin) {
  const std::uint32_t crc = crc32c(bytes);
  if (crc == expected) return {};
  return fail(ErrorCode::kCorrupt, "[shard] the {} are damaged: checksum {:08x}, not {:08x} ({})", part, crc, expected,
              origin);
}

// Copies tokens of one width; the first that is no id of the vocabulary, or the number of them.
template <class Stored>
std::size_t copy_tokens(std::span<const std::byte> bytes, std::int64_t vocabulary, std::span<std::int32_t> out) {
  bool within = true;
  for (std::size_t i = 0; i < out.size(); ++i) {
    Stored token;
    std::memcpy(&token, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    within = within && token < static_cast<std::uint64_t>(vocabulary);
    out[i] = static_cast<std::int32_t>(token);
  }
  if (within) return out.size();
  const auto wrong = std::ranges::find_if(out, [&](std::int32_t id) { return id < 0 || id >= vocabulary; });
  return static_cast<std::size_t>(wrong - out.begin());
}

}  // namespace

Result<TokenShard> TokenShard::open(const std::filesystem::path& path) {
  KRAIT_ASSIGN(formats::MappedFile file, formats::MappedFile::open(path));
  const std::span<const std::byte> bytes = file.bytes();
  KRAIT_ASSIGN(TokenShard shard, parse(bytes, path.string()));
  shard.file_ = std::move(file);
  return shard;
}

Result<TokenShard> TokenShard::parse(std::span<const std::byte> bytes, std::string origin) {
  KRAIT_ASSIGN(const ShardPrelude prelude, prelude_of(bytes, origin));
  const ShardParts parts(prelude);
  TokenShard shard;
  shard.origin_ = std::move(origin);
  shard.token_bytes_ = bytes.subspan(parts.tokens, prelude.tokens * prelude.token_bytes);
  shard.border_bytes_ = bytes.subspan(parts.borders, (prelude.documents + 1) * sizeof(std::uint64_t));
  const auto provenance = bytes.subspan(parts.provenance, prelude.provenance_bytes);
  shard.provenance_ = {reinterpret_cast<const char*>(provenance.data()), provenance.size()};
  shard.tokenizer_ = {prelude.tokenizer_high, prelude.tokenizer_low};
  shard.vocabulary_ = prelude.vocabulary;
  shard.tokens_ = static_cast<std::int64_t>(prelude.tokens);
  shard.documents_ = static_cast<std::int64_t>(prelude.documents);
  shard.token_size_ = prelude.token_bytes;
  shard.tokens_checksum_ = prelude.tokens_crc32c;
  shard.content_checksum_ = std::uint64_t{prelude.borders_crc32c} << 32 | prelude.tokens_crc32c;
  KRAIT_TRY(check_part("borders of documents", shard.border_bytes_, prelude.borders_crc32c, shard.origin_));
  KRAIT_TRY(check_part("notes of provenance", provenance, prelude.provenance_crc32c, shard.origin_));
  // A right checksum does not make the borders sensible.
  std::int64_t before = 0;
  for (std::int64_t i = 0; i <= shard.documents_; ++i) {
    const std::int64_t border = shard.document_begin(i);
    if (border < before || border > shard.tokens_ || (i == 0 && border != 0)) {
      return fail(ErrorCode::kCorrupt, "[shard] border {} of a document is {} after {} of {} tokens ({})", i, border,
                  before, shard.tokens_, shard.origin_);
    }
    before = border;
  }
  if (before != shard.tokens_) {
    return fail(ErrorCode::kCorrupt, "[shard] the documents end at {} of {} tokens ({})", before, shard.tokens_,
                shard.origin_);
  }
  return shard;
}

std::int64_t TokenShard::document_begin(std::int64_t document) const {
  KRAIT_CHECK(document >= 0 && document <= documents_, "document {} of {}", document, documents_);
  std::int64_t border;
  std::memcpy(&border, border_bytes_.data() + static_cast<std::size_t>(document) * sizeof border, sizeof border);
  return border;
}

Result<void> TokenShard::read(std::int64_t first, std::span<std::int32_t> out) const {
  const auto count = static_cast<std::int64_t>(out.size());
  KRAIT_CHECK(first >= 0 && count <= tokens_ && first <= tokens_ - count, "{} tokens from {} of {}", count, first,
              tokens_);
  const auto bytes = token_bytes_.subspan(static_cast<std::size_t>(first) * token_size_, out.size() * token_size_);
  const std::size_t good = token_size_ == sizeof(std::uint16_t) ? copy_tokens<std::uint16_t>(bytes, vocabulary_, out)
                                                                : copy_tokens<std::uint32_t>(bytes, vocabulary_, out);
  if (good == out.size()) return {};
  return fail(ErrorCode::kCorrupt, "[shard] token {} is {}, outside a vocabulary of {} ({})",
              first + static_cast<std::int64_t>(good), static_cast<std::uint32_t>(out[good]), vocabulary_, origin_);
}

Result<void> TokenShard::verify() const {
  KRAIT_TRY(check_part("tokens", token_bytes_, tokens_checksum_, origin_));
  constexpr std::int64_t kStretch = 1 << 16;
  std::vector<std::int32_t> ids;
  for (std::int64_t first = 0; first < tokens_; first += kStretch) {
    ids.resize(static_cast<std::size_t>(std::min(kStretch, tokens_ - first)));
    KRAIT_TRY(read(first, ids));
  }
  return {};
}

}  // namespace krait::train
