// From texts to token shards: quality rules, near duplicates, tokens, shards with their provenance.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/thread_pool.h"
#include "krait/formats/tokenizer.h"
#include "krait/train/data_provenance.h"
#include "krait/train/data_quality.h"
#include "krait/train/data_text.h"

namespace krait::train {

struct PreparationOptions {
  TextOptions text;
  QualityOptions quality;
  double likeness = 0.8;   // documents as alike as this are near duplicates; 0: all are kept
  bool end_tokens = true;  // a token after each document
  std::string end_token;   // that token; empty: what the tokenizer's files name, else <|endoftext|>
  std::int64_t shard_tokens = std::int64_t{1} << 26;  // a shard is closed when it has so many
  std::string tokenizer_path;                         // for the provenance
};

struct PreparationReport {
  Provenance provenance;
  std::int64_t documents = 0, kept = 0, duplicates = 0;
  std::int64_t tokens = 0;
  std::uint64_t text_bytes = 0;  // of what was kept
  std::vector<std::filesystem::path> shards;
};

// Writes folder/00000.ktok, 00001.ktok, …; the folder is made, and may hold no shards yet. `progress` is told how many
// bytes of how many are tokens; what it answers says whether to go on (kCancelled when not).
using PreparationProgress = std::function<bool(std::uint64_t done, std::uint64_t total)>;
Result<PreparationReport> prepare_shards(const PreparationOptions& options, const formats::Tokenizer& tokenizer,
                                         const std::filesystem::path& folder, ThreadPool& pool,
                                         const PreparationProgress& progress = {});

}  // namespace krait::train
