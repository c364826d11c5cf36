// Several token shards as one list of documents.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/hash.h"
#include "krait/train/data_shard.h"

namespace krait::train {

class TokenCorpus {
 public:
  // Shards, and folders whose .ktok files are taken in the order of their names. With `verify` every token is read and
  // checked first. kNotFound for a folder without shards; kInvalidArgument for shards of different tokenizers.
  static Result<TokenCorpus> open(std::span<const std::filesystem::path> paths, bool verify = true);
  static Result<TokenCorpus> of(std::vector<TokenShard> shards);

  std::int64_t vocabulary() const { return shards_.front().vocabulary(); }
  const Hash128& tokenizer() const { return shards_.front().tokenizer(); }
  std::int64_t documents() const { return first_document_.back(); }
  std::int64_t tokens() const;
  std::span<const TokenShard> shards() const { return shards_; }
  Hash128 identity() const;  // of the content, in its order

  std::int64_t length(std::int64_t document) const;
  std::vector<std::int64_t> lengths() const;
  // Tokens from `begin` of a document. kCorrupt as TokenShard::read.
  Result<void> read(std::int64_t document, std::int64_t begin, std::span<std::int32_t> out) const;

 private:
  struct Place {
    const TokenShard& shard;
    std::int64_t document;
  };
  Place place_of(std::int64_t document) const;

  std::vector<TokenShard> shards_;
  std::vector<std::int64_t> first_document_;  // of each shard, and the number of all
};

}  // namespace krait::train
