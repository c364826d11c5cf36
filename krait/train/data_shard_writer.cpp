// Writes token shards.
#include <limits>

#include "krait/core/check.h"
#include "krait/core/crc32c.h"
#include "krait/formats/atomic_file.h"
#include "krait/train/data_shard.h"
#include "krait/train/data_shard_layout.h"

namespace krait::train {

TokenShardWriter::TokenShardWriter(std::int64_t vocabulary)
    : vocabulary_(vocabulary), narrow_(vocabulary <= kShardNarrowVocabulary) {
  KRAIT_CHECK(vocabulary >= 1 && vocabulary <= std::numeric_limits<std::int32_t>::max(), "a vocabulary of {}",
              vocabulary);
}

Result<void> TokenShardWriter::add(std::span<const std::int32_t> document) {
  for (const std::int32_t id : document) {
    if (id >= 0 && id < vocabulary_) continue;
    return fail(ErrorCode::kInvalidArgument, "[shard] token {} of document {} is outside a vocabulary of {}", id,
                documents(), vocabulary_);
  }
  if (narrow_) {
    narrow_tokens_.insert(narrow_tokens_.end(), document.begin(), document.end());
  } else {
    wide_tokens_.insert(wide_tokens_.end(), document.begin(), document.end());
  }
  borders_.push_back(borders_.back() + static_cast<std::int64_t>(document.size()));
  return {};
}

void TokenShardWriter::emit(const Hash128& tokenizer, std::string_view provenance, const Sink& sink) const {
  const auto tokens = narrow_ ? std::as_bytes(std::span(narrow_tokens_)) : std::as_bytes(std::span(wide_tokens_));
  const auto borders = std::as_bytes(std::span(borders_));
  const auto notes = std::as_bytes(std::span(provenance));

  ShardPrelude prelude;
  prelude.version = kTokenShardVersion;
  prelude.tokens = static_cast<std::uint64_t>(this->tokens());
  prelude.documents = static_cast<std::uint64_t>(documents());
  prelude.provenance_bytes = notes.size();
  prelude.vocabulary = static_cast<std::uint32_t>(vocabulary_);
  prelude.token_bytes = narrow_ ? sizeof(std::uint16_t) : sizeof(std::uint32_t);
  prelude.tokenizer_high = tokenizer.high;
  prelude.tokenizer_low = tokenizer.low;
  prelude.tokens_crc32c = crc32c(tokens);
  prelude.borders_crc32c = crc32c(borders);
  prelude.provenance_crc32c = crc32c(notes);
  const ShardParts parts(prelude);
  prelude.file_bytes = parts.end;
  prelude.prelude_crc32c = crc32c(prelude.checked_bytes());

  static constexpr std::array<std::byte, kShardAlignment> kZeros{};
  std::uint64_t written = 0;
  const auto put = [&](std::uint64_t at, std::span<const std::byte> bytes) {
    if (at > written) sink(std::span(kZeros).first(static_cast<std::size_t>(at - written)));
    sink(bytes);
    written = at + bytes.size();
  };
  put(0, prelude.bytes());
  put(parts.tokens, tokens);
  put(parts.borders, borders);
  put(parts.provenance, notes);
}

Result<void> TokenShardWriter::write(const std::filesystem::path& path, const Hash128& tokenizer,
                                     std::string_view provenance) const {
  formats::AtomicFile file(path);
  emit(tokenizer, provenance, [&](std::span<const std::byte> bytes) { file.write(bytes.data(), bytes.size()); });
  return file.commit("shard");
}

std::vector<std::byte> TokenShardWriter::encode(const Hash128& tokenizer, std::string_view provenance) const {
  std::vector<std::byte> out;
  emit(tokenizer, provenance,
       [&](std::span<const std::byte> bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); });
  return out;
}

}  // namespace krait::train
