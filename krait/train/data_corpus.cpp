#include "krait/train/data_corpus.h"

#include <algorithm>

#include "krait/core/check.h"

namespace krait::train {
namespace {

namespace fs = std::filesystem;

Result<std::vector<fs::path>> shards_in(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    if (entry->path().extension() == ".ktok") found.push_back(entry->path());
  }
  if (error) return fail(ErrorCode::kInputOutput, "[shard] {} cannot be listed: {}", folder.string(), error.message());
  if (found.empty()) return fail(ErrorCode::kNotFound, "[shard] no .ktok file in {}", folder.string());
  std::ranges::sort(found);
  return found;
}

}  // namespace

Result<TokenCorpus> TokenCorpus::open(std::span<const fs::path> paths, bool verify) {
  std::vector<TokenShard> shards;
  for (const fs::path& path : paths) {
    std::vector<fs::path> files = {path};
    std::error_code unknown;  // said by whoever opens it
    if (fs::is_directory(path, unknown)) {
      KRAIT_ASSIGN(files, shards_in(path));
    }
    for (const fs::path& file : files) {
      KRAIT_ASSIGN(TokenShard shard, TokenShard::open(file));
      if (verify) KRAIT_TRY(shard.verify());
      shards.push_back(std::move(shard));
    }
  }
  return of(std::move(shards));
}

Result<TokenCorpus> TokenCorpus::of(std::vector<TokenShard> shards) {
  if (shards.empty()) return fail(ErrorCode::kNotFound, "[shard] no shards of tokens were named");
  const TokenShard& first = shards.front();
  TokenCorpus corpus;
  corpus.first_document_ = {0};
  for (const TokenShard& shard : shards) {
    if (shard.tokenizer() != first.tokenizer() || shard.vocabulary() != first.vocabulary()) {
      return fail(ErrorCode::kInvalidArgument,
                  "[shard] tokenizer {} with {} tokens ({}) is not tokenizer {} with {} tokens ({})",
                  shard.tokenizer().hex(), shard.vocabulary(), shard.origin(), first.tokenizer().hex(),
                  first.vocabulary(), first.origin());
    }
    corpus.first_document_.push_back(corpus.first_document_.back() + shard.documents());
  }
  corpus.shards_ = std::move(shards);
  return corpus;
}

std::int64_t TokenCorpus::tokens() const {
  std::int64_t tokens = 0;
  for (const TokenShard& shard : shards_) tokens += shard.tokens();
  return tokens;
}

Hash128 TokenCorpus::identity() const {
  Hasher hasher;
  for (const TokenShard& shard : shards_) {
    hasher.feed_number(shard.tokens());
    hasher.feed_number(shard.documents());
    hasher.feed_number(shard.content_checksum());
  }
  return hasher.value();
}

TokenCorpus::Place TokenCorpus::place_of(std::int64_t document) const {
  KRAIT_CHECK(document >= 0 && document < documents(), "document {} of {}", document, documents());
  const auto after = std::ranges::upper_bound(first_document_, document);
  const auto shard = static_cast<std::size_t>(after - first_document_.begin()) - 1;
  return {shards_[shard], document - first_document_[shard]};
}

std::int64_t TokenCorpus::length(std::int64_t document) const {
  const Place place = place_of(document);
  return place.shard.document_length(place.document);
}

std::vector<std::int64_t> TokenCorpus::lengths() const {
  std::vector<std::int64_t> lengths;
  lengths.reserve(static_cast<std::size_t>(documents()));
  for (const TokenShard& shard : shards_) {
    for (std::int64_t i = 0; i < shard.documents(); ++i) lengths.push_back(shard.document_length(i));
  }
  return lengths;
}

Result<void> TokenCorpus::read(std::int64_t document, std::int64_t begin, std::span<std::int32_t> out) const {
  const Place place = place_of(document);
  const std::int64_t length = place.shard.document_length(place.document);
  const auto count = static_cast<std::int64_t>(out.size());
  KRAIT_CHECK(begin >= 0 && count <= length && begin <= length - count, "{} tokens from {} of a document of {}", count,
              begin, length);
  return place.shard.read(place.shard.document_begin(place.document) + begin, out);
}

}  // namespace krait::train
