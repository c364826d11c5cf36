// Constraints that requests ask for, compiled once for a grammar and shared by all sequences under it. Compiling takes
// milliseconds for a large schema, and happens on the thread of the request, never on that of the engine.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "krait/formats/grammar.h"
#include "krait/formats/tokenizer.h"
#include "krait/runtime/constraint.h"
#include "krait/server/generation.h"

namespace krait::server {

// Thread-safe. A server has one model, so the text of the grammar alone says which constraint it is.
class ConstraintCache {
 public:
  // `drawable`: ids below may be drawn. `ends`: tokens that end a text. The tokenizer outlives it.
  ConstraintCache(const formats::Tokenizer& tokenizer, std::int64_t drawable, std::vector<TokenId> ends,
                  std::size_t capacity = kCapacity);

  using Build = std::function<Result<formats::Grammar>()>;
  // `key`: what the grammar is made of, all of it. The least recently used constraint makes room for a new one. What
  // cannot be compiled is not kept.
  Result<std::shared_ptr<const runtime::Constraint>> get(const std::string& key, const Build& build);

  struct Totals {
    std::size_t constraints = 0;
    std::uint64_t compiled = 0;  // since the start
  };
  Totals totals() const;

  // Each may learn Constraint::kMemory of its grammar's states.
  static constexpr std::size_t kCapacity = 32;
  // Keys longer than that are compiled every time rather than kept.
  static constexpr std::size_t kLongestKey = std::size_t{256} << 10;

 private:
  using Entry = std::pair<std::string, std::shared_ptr<const runtime::Constraint>>;
  std::shared_ptr<const runtime::ConstraintVocabulary> vocabulary();

  const formats::Tokenizer& tokenizer_;
  const std::int64_t drawable_;
  const std::vector<TokenId> ends_;
  const std::size_t capacity_;
  std::once_flag vocabulary_made_;
  std::shared_ptr<const runtime::ConstraintVocabulary> vocabulary_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // the last used first
  std::unordered_map<std::string, std::list<Entry>::iterator> places_;
  std::uint64_t compiled_ = 0;
};

// A sequence's place in a constraint.
std::unique_ptr<TokenMask> mask_of(std::shared_ptr<const runtime::Constraint> constraint);

}  // namespace krait::server
