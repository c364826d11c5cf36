// The tokenizer that a GGUF file carries in its metadata, as llama.cpp writes and reads it. Two kinds: "gpt2"
// (byte-level BPE; tokenizer.ggml.pre names the split pattern) and "llama" (SentencePiece's BPE: scores and byte
// tokens). GGUF says nothing of normalisation, so none is done.
#include <cmath>

#include "krait/formats/gguf_types.h"
#include "krait/formats/tokenizer_bpe.h"
#include "krait/formats/tokenizer_byte_alphabet.h"
#include "krait/formats/tokenizer_pipeline.h"
#include "krait/formats/tokenizer_split_schemes.h"
#include "krait/formats/tokenizer_world.h"

namespace krait::formats {
namespace {

constexpr std::string_view kMarker = "\u2581";

class GgufReader {
 public:
  explicit GgufReader(const Config& metadata) : metadata_(metadata) {}

  Result<std::unique_ptr<Tokenizer>> read() {
    KRAIT_ASSIGN(const std::string model, metadata_.text_or("tokenizer.ggml.model", "none"));
    if (model == "none" || model == "no_vocab") {
      return fail(ErrorCode::kNotFound, "[tokenizer] the file carries no tokenizer ({})", metadata_.origin());
    }
    if (model == "rwkv") return read_world();
    if (model != "gpt2" && model != "llama") {
      return fail(ErrorCode::kUnsupported, "[tokenizer] tokenizer.ggml.model '{}' is not supported ({})", model,
                  metadata_.origin());
    }
    KRAIT_TRY(read_vocabulary());
    if (model == "gpt2") {
      KRAIT_TRY(read_byte_level());
    } else {
      KRAIT_TRY(read_scored());
    }
    KRAIT_ASSIGN(parts_.bos, boundary("tokenizer.ggml.bos_token_id"));
    KRAIT_ASSIGN(parts_.eos, boundary("tokenizer.ggml.eos_token_id"));
    KRAIT_ASSIGN(parts_.adds_bos, metadata_.boolean_or("tokenizer.ggml.add_bos_token", parts_.adds_bos));
    return make_pipeline_tokenizer(std::move(parts_));
  }

 private:
  Result<std::unique_ptr<Tokenizer>> read_world() {
    KRAIT_ASSIGN(std::vector<std::string> tokens, metadata_.texts("tokenizer.ggml.tokens"));
    for (std::size_t id = 1; id < tokens.size(); ++id) {
      auto bytes = unescape_python(tokens[id], /*bytes=*/true);
      if (!bytes) {
        return fail(ErrorCode::kCorrupt, "[tokenizer] token {} is no Python literal of bytes ({})", id,
                    metadata_.origin());
      }
      tokens[id] = *std::move(bytes);
    }
    return make_world_tokenizer(std::move(tokens), metadata_.origin());
  }

  Result<void> read_vocabulary() {
    KRAIT_ASSIGN(tokens_, metadata_.texts("tokenizer.ggml.tokens"));
    std::vector<std::int64_t> types;
    if (metadata_.has("tokenizer.ggml.token_type")) {
      KRAIT_ASSIGN(types, metadata_.integers("tokenizer.ggml.token_type"));
      if (types.size() != tokens_.size()) {
        return fail(ErrorCode::kCorrupt, "[tokenizer] {} token types for {} tokens ({})", types.size(), tokens_.size(),
                    metadata_.origin());
      }
    }
    std::vector<std::pair<std::string, std::int64_t>> pairs;
    pairs.reserve(tokens_.size());
    for (const std::string& token : tokens_) pairs.emplace_back(token, static_cast<std::int64_t>(pairs.size()));
    KRAIT_ASSIGN(parts_.vocabulary, Vocabulary::build(std::move(pairs), metadata_.origin()));
    plain_.assign(tokens_.size(), true);
    for (std::size_t i = 0; i < types.size(); ++i) {
      const bool special = types[i] == kGgufControlToken || types[i] == kGgufUnknownToken;
      if (!special && types[i] != kGgufUserDefinedToken) continue;
      plain_[i] = false;
      if (types[i] == kGgufUnknownToken) unknown_ = static_cast<TokenId>(i);
      if (tokens_[i].empty()) continue;
      AddedToken added;
      added.content = tokens_[i];
      added.id = static_cast<TokenId>(i);
      added.special = special;
      parts_.added.push_back(std::move(added));
    }
    return {};
  }

  Result<std::optional<TokenId>> boundary(const char* key) const {
    if (!metadata_.has(key)) return std::optional<TokenId>();
    KRAIT_ASSIGN(const std::int64_t id, metadata_.integer(key));
    if (id < 0 || id >= parts_.vocabulary.size()) {
      return fail(ErrorCode::kCorrupt, "[tokenizer] {} is {}, outside a vocabulary of {} ({})", key, id,
                  parts_.vocabulary.size(), metadata_.origin());
    }
    return std::optional<TokenId>(static_cast<TokenId>(id));
  }

  Result<void> read_byte_level() {
    KRAIT_ASSIGN(const std::string pre, metadata_.text_or("tokenizer.ggml.pre", "default"));
    const SplitScheme* scheme = find_split_scheme(pre);
    if (scheme == nullptr) {
      return fail(ErrorCode::kUnsupported, "[tokenizer] tokenizer.ggml.pre '{}' is not supported ({})", pre,
                  metadata_.origin());
    }
    for (const std::string_view pattern : scheme->patterns) {
      KRAIT_ASSIGN(SplitRegex regex, SplitRegex::compile(pattern, metadata_.origin()));
      parts_.stages.push_back(make_split_stage(std::move(regex), SplitBehavior::kIsolated, false));
    }
    parts_.adds_bos = scheme->adds_bos;
    KRAIT_ASSIGN(const bool prefix, metadata_.boolean_or("tokenizer.ggml.add_space_prefix", false));
    if (prefix) {
      parts_.prefix.when = TextPrefix::kAlways;
      parts_.prefix.unless.emplace_back(" ");
    }

    BpeParts model;
    model.bytes = true;
    model.ignore_merges = scheme->ignore_merges;
    KRAIT_ASSIGN(const std::vector<std::string> merges, metadata_.texts("tokenizer.ggml.merges"));
    model.merges = MergeTable(merges.size());
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
      const std::size_t space = merges[rank].find(' ');
      const std::string left = merges[rank].substr(0, space);
      const std::string right = space == std::string::npos ? std::string() : merges[rank].substr(space + 1);
      const auto left_id = parts_.vocabulary.find(left);
      const auto right_id = parts_.vocabulary.find(right);
      const auto merged = parts_.vocabulary.find(left + right);
      if (!left_id || !right_id || !merged) {
        return fail(ErrorCode::kCorrupt, "[tokenizer] merge {} ('{}') names a token that is not there ({})", rank,
                    merges[rank], metadata_.origin());
      }
      model.merges.insert(*left_id, *right_id, {static_cast<std::uint32_t>(rank), *merged});
    }
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      if (!plain_[i]) continue;
      if (auto raw = unspell_bytes(tokens_[i])) model.tokens.emplace_back(*std::move(raw), static_cast<TokenId>(i));
    }
    parts_.kind = "bpe";
    parts_.model = make_bpe_model(std::move(model));
    parts_.decoder.steps.push_back({DecoderStep::kByteLevel, {}, {}});
    return {};
  }

  Result<void> read_scored() {
    KRAIT_ASSIGN(const std::vector<double> given, metadata_.numbers("tokenizer.ggml.scores"));
    if (given.size() != tokens_.size()) {
      return fail(ErrorCode::kCorrupt, "[tokenizer] {} scores for {} tokens ({})", given.size(), tokens_.size(),
                  metadata_.origin());
    }
    std::vector<float> scores;
    for (const double score : given) {
      if (std::isnan(score)) {
        return fail(ErrorCode::kCorrupt, "[tokenizer] score of token {} is NaN ({})", scores.size(),
                    metadata_.origin());
      }
      scores.push_back(static_cast<float>(score));
    }
    KRAIT_ASSIGN(const bool prefix, metadata_.boolean_or("tokenizer.ggml.add_space_prefix", true));
    if (prefix) {
      parts_.prefix.when = TextPrefix::kAlways;
      parts_.decoder.start.assign(1, ' ');
    }
    BpeParts model;
    model.unknown = unknown_;
    model.byte_fallback = true;
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      if (plain_[i]) model.tokens.emplace_back(tokens_[i], static_cast<TokenId>(i));
    }
    add_scored_merges(scores, parts_.vocabulary.size(), model);
    parts_.kind = "bpe";
    parts_.adds_bos = true;
    parts_.model = make_bpe_model(std::move(model));
    const MarkerCut cut = parts_.model->separable_at(kMarker) ? MarkerCut::kRuns : MarkerCut::kNone;
    parts_.stages.push_back(make_marker_stage(std::string(kMarker), true, cut));
    parts_.decoder.steps.push_back({DecoderStep::kReplace, std::string(kMarker), " "});
    parts_.decoder.steps.push_back({DecoderStep::kByteFallback, {}, {}});
    return {};
  }

  const Config& metadata_;
  TokenizerParts parts_;
  std::vector<std::string> tokens_;
  std::vector<bool> plain_;  // neither special nor user-defined
  std::optional<TokenId> unknown_;
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> tokenizer_from_gguf(const Config& metadata) { return GgufReader(metadata).read(); }

}  // namespace krait::formats
