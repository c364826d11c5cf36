#include "krait/server/constraint_cache.h"

namespace krait::server {
namespace {

class ConstraintMask final : public TokenMask {
 public:
  explicit ConstraintMask(std::shared_ptr<const runtime::Constraint> constraint) : matcher_(std::move(constraint)) {}

  void allowed(std::span<std::uint64_t> mask) override { matcher_.allowed(mask); }
  bool accept(TokenId id) override {
    if (!matcher_.accept(id)) return false;
    // Where nothing but the end may follow, it need not be drawn.
    finished_ = matcher_.finished() || matcher_.must_end();
    return true;
  }
  bool finished() const override { return finished_; }

 private:
  runtime::ConstraintMatcher matcher_;
  bool finished_ = false;
};

}  // namespace

ConstraintCache::ConstraintCache(const formats::Tokenizer& tokenizer, std::int64_t drawable, std::vector<TokenId> ends,
                                 std::size_t capacity)
    : tokenizer_(tokenizer), drawable_(drawable), ends_(std::move(ends)), capacity_(capacity) {}

std::shared_ptr<const runtime::ConstraintVocabulary> ConstraintCache::vocabulary() {
  std::call_once(vocabulary_made_, [&] { vocabulary_ = runtime::ConstraintVocabulary::of(tokenizer_, drawable_); });
  return vocabulary_;
}

Result<std::shared_ptr<const runtime::Constraint>> ConstraintCache::get(const std::string& key, const Build& build) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = places_.find(key); found != places_.end()) {
      entries_.splice(entries_.begin(), entries_, found->second);
      return found->second->second;
    }
  }
  // Without the lock: others need not wait for this one. Two who ask for the same at once compile it twice.
  KRAIT_ASSIGN(const formats::Grammar grammar, build());
  KRAIT_ASSIGN(auto constraint, runtime::Constraint::compile(grammar, vocabulary(), ends_));
  const std::lock_guard lock(mutex_);
  ++compiled_;
  if (key.size() > kLongestKey || places_.contains(key)) return constraint;
  entries_.emplace_front(key, constraint);
  places_.emplace(key, entries_.begin());
  if (entries_.size() > capacity_) {
    places_.erase(entries_.back().first);
    entries_.pop_back();
  }
  return constraint;
}

ConstraintCache::Totals ConstraintCache::totals() const {
  const std::lock_guard lock(mutex_);
  return {entries_.size(), compiled_};
}

std::unique_ptr<TokenMask> mask_of(std::shared_ptr<const runtime::Constraint> constraint) {
  return std::make_unique<ConstraintMask>(std::move(constraint));
}

}  // namespace krait::server
