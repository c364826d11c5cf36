// Token shards (.ktok): tokenised documents in a file that is mapped and read in place.
//
//   prelude     128 bytes: magic, endianness mark, version, sizes, checksums (data_shard_layout.h)
//   tokens      from byte 128: u16 where the vocabulary has at most 65,536 tokens and the writer chose so, else u32
//   borders     at the next multiple of 64: u64 [documents + 1], where in the tokens each document begins; the last is
//               the number of tokens
//   provenance  at the next multiple of 64, up to the end: JSON (data_provenance.h): sources, tokenizer, rules
//
// Each part has a CRC-32C. All numbers are little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/hash.h"
#include "krait/formats/mapped_file.h"

namespace krait::train {

inline constexpr std::uint32_t kTokenShardVersion = 1;

// A shard that is read. Nothing in it is believed: sizes, borders and provenance are checked when it is opened, before
// anything is allocated that they ask for; every token when it is read, and all of them by verify().
class TokenShard {
 public:
  static Result<TokenShard> open(const std::filesystem::path& path);  // maps the file
  // `bytes` are used where they are. `origin` stands in messages.
  static Result<TokenShard> parse(std::span<const std::byte> bytes, std::string origin);

  std::int64_t vocabulary() const { return vocabulary_; }
  std::int64_t tokens() const { return tokens_; }
  std::int64_t documents() const { return documents_; }
  std::int64_t document_begin(std::int64_t document) const;  // document <= documents()
  std::int64_t document_length(std::int64_t document) const {
    return document_begin(document + 1) - document_begin(document);
  }
  const Hash128& tokenizer() const { return tokenizer_; }      // formats/content_identity.h
  std::string_view provenance() const { return provenance_; }  // JSON
  const std::string& origin() const { return origin_; }
  std::uint64_t content_checksum() const { return content_checksum_; }  // of tokens and borders

  // Tokens first … first + out.size() - 1, which must lie within (InternalError otherwise). kCorrupt for one outside
  // the vocabulary.
  Result<void> read(std::int64_t first, std::span<std::int32_t> out) const;
  // kCorrupt when the tokens are not those that were written.
  Result<void> verify() const;

 private:
  formats::MappedFile file_;
  std::string origin_;
  std::span<const std::byte> token_bytes_;
  std::span<const std::byte> border_bytes_;
  std::string_view provenance_;
  Hash128 tokenizer_;
  std::int64_t vocabulary_ = 0;
  std::int64_t tokens_ = 0;
  std::int64_t documents_ = 0;
  std::uint32_t token_size_ = 2;
  std::uint32_t tokens_checksum_ = 0;
  std::uint64_t content_checksum_ = 0;
};

// Collects documents in memory and writes a shard. Whoever has more than fits starts another shard.
class TokenShardWriter {
 public:
  explicit TokenShardWriter(std::int64_t vocabulary);

  // kInvalidArgument for a token outside the vocabulary; then nothing of the document is kept. It may be empty.
  Result<void> add(std::span<const std::int32_t> document);
  std::int64_t tokens() const { return borders_.back(); }
  std::int64_t documents() const { return static_cast<std::int64_t>(borders_.size()) - 1; }

  // The file appears under its name only when it is complete and on the disk.
  Result<void> write(const std::filesystem::path& path, const Hash128& tokenizer, std::string_view provenance) const;
  std::vector<std::byte> encode(const Hash128& tokenizer, std::string_view provenance) const;

 private:
  using Sink = std::function<void(std::span<const std::byte>)>;
  void emit(const Hash128& tokenizer, std::string_view provenance, const Sink& sink) const;

  std::int64_t vocabulary_;
  bool narrow_;
  std::vector<std::uint16_t> narrow_tokens_;
  std::vector<std::uint32_t> wide_tokens_;
  std::vector<std::int64_t> borders_ = {0};
};

}  // namespace krait::train
