// Runs text through the parts, whole or as a stream. A stream keeps three tails: raw bytes in which an added token may
// be starting, what the normaliser holds, and normalised text whose pieces more text could change. Nothing else of the
// text is kept, and each tail is looked at again only after it has doubled, so that a long undecided stretch (a
// megabyte of spaces) costs linear time.
#include "krait/formats/tokenizer_pipeline.h"

#include <algorithm>
#include <mutex>

#include "krait/formats/tokenizer_byte_alphabet.h"
#include "krait/formats/tokenizer_piece_cache.h"
#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats {
namespace {

constexpr std::size_t kBlock = 1 << 12;  // bytes gathered before a stream is worked on

class ModelReceiver final : public PieceReceiver {
 public:
  ModelReceiver(const TokenModel& model, PieceCache& cache) : model_(model), cache_(cache) {}
  void write_to(std::vector<TokenId>& ids) { ids_ = &ids; }
  std::size_t receive(std::string_view text, bool closes) override {
    if (!closes) return 0;
    cache_.encode(model_, text, *ids_);
    return text.size();
  }

 private:
  const TokenModel& model_;
  PieceCache& cache_;
  std::vector<TokenId>* ids_ = nullptr;
};

class PipelineTokenizer final : public Tokenizer {
 public:
  explicit PipelineTokenizer(TokenizerParts parts) : parts_(std::move(parts)) {
    const auto size = static_cast<std::size_t>(parts_.vocabulary.size());
    special_.resize(size);
    std::vector<bool> literal(size);
    std::vector<AddedToken> raw;
    std::vector<AddedToken> normalized;
    for (const AddedToken& token : parts_.added) {
      const auto index = static_cast<std::size_t>(token.id);
      literal[index] = true;
      if (token.special) special_[index] = true;
      if (token.normalized) {
        normalized.push_back(token);
        normalized.back().content = normalize(parts_.normalizer, token.content);
      } else {
        raw.push_back(token);
      }
    }
    for (const TokenId id : parts_.special) special_[static_cast<std::size_t>(id)] = true;
    raw_tokens_ = AddedTokenMatcher(raw);
    normalized_tokens_ = AddedTokenMatcher(normalized);
    bytes_ = TokenBytes(parts_.vocabulary, parts_.decoder, literal);
  }

  std::string_view kind() const override { return parts_.kind; }
  std::int64_t size() const override { return parts_.vocabulary.size(); }
  std::vector<TokenId> encode(std::string_view text) const override;
  std::unique_ptr<TokenEncoder> encoder() const override;

  std::string decode(std::span<const TokenId> ids, bool skip_special) const override {
    std::string text;
    bool at_start = true;
    for (const TokenId id : ids) {
      if (skip_special && is_special(id)) continue;
      std::string_view bytes = bytes_.of(id);
      if (at_start && !bytes.empty()) {
        at_start = false;
        if (bytes.starts_with(parts_.decoder.start)) bytes.remove_prefix(parts_.decoder.start.size());
      }
      text.append(bytes);
    }
    return text;
  }
  std::string_view token_bytes(TokenId id) const override { return bytes_.of(id); }
  std::string_view start_drop() const override { return parts_.decoder.start; }

  std::optional<TokenId> token_to_id(std::string_view token) const override { return parts_.vocabulary.find(token); }
  std::string id_to_token(TokenId id) const override {
    return parts_.vocabulary.has(id) ? parts_.vocabulary.token(id) : std::string();
  }
  bool is_special(TokenId id) const override {
    return id >= 0 && static_cast<std::size_t>(id) < special_.size() && special_[static_cast<std::size_t>(id)];
  }
  std::optional<TokenId> bos() const override { return parts_.bos; }
  std::optional<TokenId> eos() const override { return parts_.eos; }
  bool adds_bos() const override { return parts_.adds_bos; }

 private:
  friend class PipelineEncoder;

  // Caches are handed from one encoder to the next, so that short texts profit too.
  std::unique_ptr<PieceCache> borrow_cache() const {
    const std::lock_guard lock(caches_mutex_);
    if (caches_.empty()) return std::make_unique<PieceCache>();
    auto cache = std::move(caches_.back());
    caches_.pop_back();
    return cache;
  }
  void return_cache(std::unique_ptr<PieceCache> cache) const {
    constexpr std::size_t kKept = 16;
    const std::lock_guard lock(caches_mutex_);
    if (caches_.size() < kKept) caches_.push_back(std::move(cache));
  }

  TokenizerParts parts_;
  std::vector<bool> special_;
  AddedTokenMatcher raw_tokens_;
  AddedTokenMatcher normalized_tokens_;
  TokenBytes bytes_;
  mutable std::mutex caches_mutex_;
  mutable std::vector<std::unique_ptr<PieceCache>> caches_;
};

class PipelineEncoder final : public TokenEncoder {
 public:
  explicit PipelineEncoder(const PipelineTokenizer& tokenizer)
      : tokenizer_(tokenizer),
        cache_(tokenizer.borrow_cache()),
        model_(*tokenizer.parts_.model, *cache_),
        normalizer_(tokenizer.parts_.normalizer) {}
  ~PipelineEncoder() override { tokenizer_.return_cache(std::move(cache_)); }
  PipelineEncoder(const PipelineEncoder&) = delete;
  PipelineEncoder& operator=(const PipelineEncoder&) = delete;

  void feed(std::string_view bytes, std::vector<TokenId>& ids) override {
    raw_.append(bytes);
    if (raw_.size() < raw_try_) return;
    const std::size_t taken = take_raw(raw_, false, ids);
    raw_.erase(0, taken);
    raw_try_ = std::max(kBlock, 2 * raw_.size());
  }

  void finish(std::vector<TokenId>& ids) override {
    take_raw(raw_, true, ids);
    raw_.clear();
    raw_try_ = kBlock;
    section_try_ = kBlock;
    before_raw_ = 0;
    text_opens_ = true;
    piece_opens_ = true;
  }

  // A text at once, without a copy of the raw bytes.
  void whole(std::string_view text, std::vector<TokenId>& ids) { take_raw(text, true, ids); }

 private:
  // Cuts raw text at the added tokens that are searched as they stand; returns the bytes done with.
  std::size_t take_raw(std::string_view text, bool closes, std::vector<TokenId>& ids) {
    model_.write_to(ids);
    std::size_t at = 0;
    while (true) {
      const char32_t before = at == 0 ? before_raw_ : last_character(text.substr(0, at));
      const AddedTokenMatcher::Scan scan = tokenizer_.raw_tokens_.scan(text, at, closes, before);
      normalizer_.feed(text.substr(at, scan.plain_end - at), closes || scan.id.has_value(), section_);
      take_section(closes || scan.id.has_value(), ids);
      if (!scan.id) {
        if (scan.plain_end > 0) before_raw_ = last_character(text.substr(0, scan.plain_end));
        return scan.plain_end;
      }
      put_added(*scan.id, ids);
      at = scan.resume;
    }
  }

  void put_added(TokenId id, std::vector<TokenId>& ids) {
    ids.push_back(id);
    text_opens_ = false;
    piece_opens_ = true;
  }

  // Works on the normalised text gathered in section_; what stays there waits for more.
  void take_section(bool closes, std::vector<TokenId>& ids) {
    if (!closes && section_.size() < section_try_) return;
    std::size_t at = 0;
    while (true) {
      const char32_t before = at == 0 ? before_section_ : last_character(std::string_view(section_).substr(0, at));
      // A prefix that was put in is no place for an added token to begin.
      const std::size_t from = at == 0 ? inserted_ : at;
      const AddedTokenMatcher::Scan scan = tokenizer_.normalized_tokens_.scan(section_, from, closes, before);
      const bool piece_closes = closes || scan.id.has_value();
      const std::string_view piece = std::string_view(section_).substr(at, scan.plain_end - at);
      if (piece_closes) {
        take_piece(piece);
      } else {
        at += take_open_piece(at, piece.size());
        break;
      }
      if (!scan.id) {
        at = section_.size();
        break;
      }
      put_added(*scan.id, ids);
      at = scan.resume;
    }
    if (at > 0) before_section_ = last_character(std::string_view(section_).substr(0, at));
    if (closes) before_section_ = 0;
    if (at > 0 || closes) inserted_ = 0;
    section_.erase(0, at);
    section_try_ = std::max(kBlock, 2 * section_.size());
    if (closes) piece_opens_ = true;
  }

  bool wants_prefix(std::string_view piece) const {
    const TextPrefix& prefix = tokenizer_.parts_.prefix;
    if (!piece_opens_ || prefix.when == TextPrefix::kNever) return false;
    if (prefix.when == TextPrefix::kFirst && !text_opens_) return false;
    return std::none_of(prefix.unless.begin(), prefix.unless.end(),
                        [&](const std::string& beginning) { return piece.starts_with(beginning); });
  }

  void take_piece(std::string_view piece) {
    if (piece.empty()) return;
    if (wants_prefix(piece)) {
      take_valid(tokenizer_.parts_.prefix.prefix + std::string(piece), true);
    } else {
      take_valid(piece, true);
    }
    text_opens_ = false;
  }

  // The same for a piece that may go on, section_[at : at + size]; returns the bytes done with.
  std::size_t take_open_piece(std::size_t at, std::size_t size) {
    constexpr std::size_t kDecidesPrefix = 16;  // bytes that are enough to see how a piece begins
    if (piece_opens_ && size < kDecidesPrefix) return 0;
    if (wants_prefix(std::string_view(section_).substr(at, size))) {
      section_.insert(at, tokenizer_.parts_.prefix.prefix);
      inserted_ = at == 0 ? tokenizer_.parts_.prefix.prefix.size() : 0;
      size += tokenizer_.parts_.prefix.prefix.size();
    }
    piece_opens_ = false;
    text_opens_ = false;
    const std::size_t taken = take_valid(std::string_view(section_).substr(at, size), false);
    if (at + taken > 0) inserted_ = 0;
    return taken;
  }

  // A byte that is no UTF-8 is a piece by itself, and the text on either side of it is cut apart.
  std::size_t take_valid(std::string_view text, bool closes) {
    std::size_t at = 0;
    while (at < text.size()) {
      const std::size_t end = valid_utf8_end(text, at);
      const bool may_complete = !closes && text.size() - end <= incomplete_tail(text);
      if (end > at) {
        const std::size_t taken =
            run_stages(tokenizer_.parts_.stages, 0, text.substr(at, end - at), !may_complete, model_);
        if (may_complete) return at + taken;
      }
      if (may_complete) return end;
      at = end;
      if (at == text.size()) break;
      const std::string_view byte = text.substr(at++, 1);
      if (tokenizer_.parts_.spelled_bytes) {
        model_.receive(spell_bytes(byte), true);
      } else {
        model_.receive(byte, true);
      }
    }
    return at;
  }

  const PipelineTokenizer& tokenizer_;
  std::unique_ptr<PieceCache> cache_;
  ModelReceiver model_;
  NormalizerStream normalizer_;
  std::string raw_;
  std::string section_;
  std::size_t raw_try_ = kBlock;
  std::size_t section_try_ = kBlock;
  std::size_t inserted_ = 0;  // bytes at the front of section_ that are a prefix put in, not text
  char32_t before_raw_ = 0;
  char32_t before_section_ = 0;
  bool text_opens_ = true;
  bool piece_opens_ = true;
};

std::vector<TokenId> PipelineTokenizer::encode(std::string_view text) const {
  std::vector<TokenId> ids;
  PipelineEncoder(*this).whole(text, ids);
  return ids;
}

std::unique_ptr<TokenEncoder> PipelineTokenizer::encoder() const { return std::make_unique<PipelineEncoder>(*this); }

// Answers for another tokenizer, with its own word on the ends of a text.
class BoundedTokenizer final : public Tokenizer {
 public:
  BoundedTokenizer(std::unique_ptr<Tokenizer> inner, BoundaryTokens tokens)
      : inner_(std::move(inner)), tokens_(std::move(tokens)) {}
  std::string_view kind() const override { return inner_->kind(); }
  std::int64_t size() const override { return inner_->size(); }
  std::vector<TokenId> encode(std::string_view text) const override { return inner_->encode(text); }
  std::unique_ptr<TokenEncoder> encoder() const override { return inner_->encoder(); }
  std::string decode(std::span<const TokenId> ids, bool skip) const override { return inner_->decode(ids, skip); }
  std::string_view token_bytes(TokenId id) const override { return inner_->token_bytes(id); }
  std::string_view start_drop() const override { return inner_->start_drop(); }
  std::optional<TokenId> token_to_id(std::string_view token) const override { return inner_->token_to_id(token); }
  std::string id_to_token(TokenId id) const override { return inner_->id_to_token(id); }
  bool is_special(TokenId id) const override { return inner_->is_special(id); }
  std::optional<TokenId> bos() const override { return tokens_.bos ? tokens_.bos : inner_->bos(); }
  std::optional<TokenId> eos() const override { return tokens_.eos ? tokens_.eos : inner_->eos(); }
  bool adds_bos() const override { return tokens_.adds_bos.value_or(inner_->adds_bos()); }

 private:
  std::unique_ptr<Tokenizer> inner_;
  BoundaryTokens tokens_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_pipeline_tokenizer(TokenizerParts parts) {
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

std::unique_ptr<Tokenizer> with_boundary_tokens(std::unique_ptr<Tokenizer> tokenizer, const BoundaryTokens& tokens) {
  return std::make_unique<BoundedTokenizer>(std::move(tokenizer), tokens);
}

}  // namespace krait::formats
