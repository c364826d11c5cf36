// Where the tokens of a shard come from, as JSON inside it: which files, which tokenizer, what was left out and why.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/hash.h"
#include "krait/train/data_quality.h"
#include "krait/train/data_text.h"

namespace krait::train {

struct Provenance {
  std::vector<TextFile> sources;   // paths as they were given
  std::string tokenizer;           // where it was read from
  Hash128 tokenizer_identity;      // formats/content_identity.h
  std::vector<QualityRule> rules;  // with how many documents each dropped, near duplicates among them
  std::int64_t documents = 0;      // that were left, of all shards
  std::int64_t shard = 0;          // number of this one

  std::string to_json() const;
  static Result<Provenance> parse(std::string_view json, const std::string& origin);
};

}  // namespace krait::train
