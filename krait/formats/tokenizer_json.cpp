// Reads tokenizer.json of Hugging Face tokenizers into the parts of a pipeline. What a file asks for and krait does
// not have is refused by name, never skipped. Post-processors are read only for the tokens they put at the ends.
// Format: the serialised structures of the `tokenizers` library, version "1.0".
#include <cmath>
#include <nlohmann/json.hpp>

#include "krait/formats/tokenizer_bpe.h"
#include "krait/formats/tokenizer_byte_alphabet.h"
#include "krait/formats/tokenizer_pipeline.h"
#include "krait/formats/tokenizer_unigram.h"

namespace krait::formats {
namespace {

using Json = nlohmann::json;

constexpr int kDeepest = 8;  // sequences within sequences
constexpr std::string_view kMarker = "\u2581";

const Json& field(const Json& object, const char* name) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto found = object.find(name);
  return found == object.end() ? null : *found;
}

bool flag(const Json& object, const char* name, bool fallback) {
  const Json& value = field(object, name);
  return value.is_boolean() ? value.get<bool>() : fallback;
}

std::string text(const Json& object, const char* name, std::string fallback = {}) {
  const Json& value = field(object, name);
  return value.is_string() ? value.get<std::string>() : std::move(fallback);
}

std::optional<std::int64_t> whole_number(const Json& value) {
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{1} << 62) return std::int64_t{1} << 62;
  if (!value.is_number_integer()) return std::nullopt;
  return value.get<std::int64_t>();
}

class JsonReader {
 public:
  explicit JsonReader(const std::string& origin) : origin_(origin) {}

  Result<std::unique_ptr<Tokenizer>> read(std::string_view bytes) {
    const Json root = Json::parse(bytes.begin(), bytes.end(), nullptr, false);
    if (!root.is_object()) {
      return fail(ErrorCode::kCorrupt, "[tokenizer] not a JSON object: {} bytes ({})", bytes.size(), origin_);
    }
    KRAIT_TRY(read_normalizer(field(root, "normalizer"), 0));
    KRAIT_TRY(read_pre_tokenizer(field(root, "pre_tokenizer"), 0));
    finish_byte_level();
    KRAIT_TRY(read_added(field(root, "added_tokens")));
    KRAIT_TRY(read_model(field(root, "model")));
    KRAIT_TRY(place_marker_stages());
    if (field(root, "decoder").is_null()) {
      parts_.decoder.separator = " ";
      parts_.decoder.start.assign(1, ' ');
    } else {
      KRAIT_TRY(read_decoder(field(root, "decoder"), 0));
    }
    read_post_processor(field(root, "post_processor"), 0);
    return make_pipeline_tokenizer(std::move(parts_));
  }

 private:
  std::unexpected<Error> unsupported(const char* what, const std::string& which) const {
    return fail(ErrorCode::kUnsupported, "[tokenizer] {} of type '{}' is not supported ({})", what, which, origin_);
  }

  Result<void> check_depth(int depth) const {
    if (depth <= kDeepest) return {};
    return fail(ErrorCode::kCorrupt, "[tokenizer] sequences nested deeper than {} ({})", kDeepest, origin_);
  }

  // {"String": …} or {"Regex": …}, as a pattern.
  struct Pattern {
    std::string literal;
    std::string regex;
  };
  Result<Pattern> read_pattern(const Json& json) const {
    Pattern pattern{text(json, "String"), text(json, "Regex")};
    if (pattern.literal.empty() && pattern.regex.empty()) {
      return fail(ErrorCode::kCorrupt, "[tokenizer] a pattern has neither \"String\" nor \"Regex\" ({})", origin_);
    }
    return pattern;
  }

  Result<void> read_normalizer(const Json& json, int depth) {
    KRAIT_TRY(check_depth(depth));
    if (json.is_null()) return {};
    const std::string type = text(json, "type");
    auto& steps = parts_.normalizer;
    const auto unicode = [&](UnicodeForm form) -> Result<void> {
      KRAIT_ASSIGN(auto step, make_unicode_step(form));
      steps.push_back(std::move(step));
      return {};
    };
    if (type == "Sequence") {
      for (const Json& inner : field(json, "normalizers")) KRAIT_TRY(read_normalizer(inner, depth + 1));
      return {};
    }
    if (type == "NFC") return unicode(UnicodeForm::kNfc);
    if (type == "NFKC") return unicode(UnicodeForm::kNfkc);
    if (type == "NFD") return unicode(UnicodeForm::kNfd);
    if (type == "NFKD") return unicode(UnicodeForm::kNfkd);
    if (type == "Lowercase") {
      steps.push_back(make_lowercase_step());
    } else if (type == "Prepend") {
      steps.push_back(make_prepend_step(text(json, "prepend")));
    } else if (type == "Strip") {
      steps.push_back(make_strip_step(flag(json, "strip_left", true), flag(json, "strip_right", true)));
    } else if (type == "Replace") {
      KRAIT_ASSIGN(const Pattern pattern, read_pattern(field(json, "pattern")));
      if (!pattern.literal.empty()) {
        steps.push_back(make_replace_step(pattern.literal, text(json, "content")));
      } else {
        KRAIT_ASSIGN(SplitRegex regex, SplitRegex::compile(pattern.regex, origin_));
        steps.push_back(make_regex_replace_step(std::move(regex), text(json, "content")));
      }
    } else {
      return unsupported("normalizer", type);
    }
    return {};
  }

  Result<void> add_split(std::string_view pattern, SplitBehavior behavior, bool invert = false) {
    KRAIT_ASSIGN(SplitRegex regex, SplitRegex::compile(pattern, origin_));
    parts_.stages.push_back(make_split_stage(std::move(regex), behavior, invert));
    return {};
  }

  Result<SplitBehavior> read_behavior(const Json& json) const {
    const std::string name = text(json, "behavior", "Isolated");
    if (name == "Removed") return SplitBehavior::kRemoved;
    if (name == "Isolated") return SplitBehavior::kIsolated;
    if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
    if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
    if (name == "Contiguous") return SplitBehavior::kContiguous;
    return unsupported("split behavior", name);
  }

  // The first stage of all gets its prefix from the pipeline, which knows where texts begin.
  void add_prefix(std::string unless_marker, TextPrefix::When when) {
    if (parts_.stages.empty() && parts_.prefix.when == TextPrefix::kNever) {
      parts_.prefix.when = when;
      parts_.prefix.unless = {" "};
      if (!unless_marker.empty()) parts_.prefix.unless.push_back(std::move(unless_marker));
    } else {
      parts_.stages.push_back(make_prefix_stage(" "));
    }
  }

  Result<void> read_pre_tokenizer(const Json& json, int depth) {
    KRAIT_TRY(check_depth(depth));
    if (json.is_null()) return {};
    const std::string type = text(json, "type");
    if (type == "Sequence") {
      for (const Json& inner : field(json, "pretokenizers")) KRAIT_TRY(read_pre_tokenizer(inner, depth + 1));
      return {};
    }
    // Whatever follows a byte-level stage works on its alphabet, not on text.
    if (byte_level_) parts_.stages.push_back(make_byte_alphabet_stage());
    byte_spelled_ = byte_spelled_ || byte_level_;
    byte_level_ = false;
    if (type == "ByteLevel") {
      if (byte_spelled_) return unsupported("second pre-tokenizer", type);
      if (flag(json, "add_prefix_space", true)) add_prefix("", TextPrefix::kAlways);
      if (flag(json, "use_regex", true)) KRAIT_TRY(add_split(kGpt2Pattern, SplitBehavior::kIsolated));
      byte_level_ = true;
      return {};
    }
    if (type == "Split") {
      KRAIT_ASSIGN(const Pattern pattern, read_pattern(field(json, "pattern")));
      KRAIT_ASSIGN(const SplitBehavior behavior, read_behavior(json));
      return add_split(pattern.literal.empty() ? pattern.regex : SplitRegex::quote(pattern.literal), behavior,
                       flag(json, "invert", false));
    }
    if (type == "Digits") {
      return add_split(flag(json, "individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)", SplitBehavior::kIsolated);
    }
    if (type == "Punctuation") {
      KRAIT_ASSIGN(const SplitBehavior behavior, read_behavior(json));
      return add_split(R"([\p{P}$+<=>^`|~])", behavior);
    }
    if (type == "WhitespaceSplit") return add_split(R"(\s+)", SplitBehavior::kRemoved);
    if (type == "Whitespace") {
      constexpr std::string_view kWord = R"([\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{200C}\x{200D}])";
      const std::string pattern =
          fmt::format(R"({0}+|[^\s\p{{L}}\p{{M}}\p{{Nd}}\p{{Nl}}\p{{Pc}}\x{{200C}}\x{{200D}}]+)", kWord);
      return add_split(pattern, SplitBehavior::kRemoved, true);
    }
    if (type == "CharDelimiterSplit") {
      return add_split(SplitRegex::quote(text(json, "delimiter")), SplitBehavior::kRemoved);
    }
    if (type == "Metaspace") return read_metaspace(json);
    return unsupported("pre-tokenizer", type);
  }

  Result<void> read_metaspace(const Json& json) {
    const std::string marker = text(json, "replacement", std::string(kMarker));
    if (marker.empty()) return fail(ErrorCode::kCorrupt, "[tokenizer] Metaspace without a replacement ({})", origin_);
    KRAIT_ASSIGN(const TextPrefix::When when, read_scheme(json));
    if (when == TextPrefix::kFirst && !parts_.stages.empty()) return unsupported("later prepend scheme", "first");
    if (when != TextPrefix::kNever) add_prefix(marker, when);
    if (flag(json, "split", true)) {
      parts_.stages.push_back(make_marker_stage(marker, true, MarkerCut::kEvery));
    } else {
      // Where it may cut depends on the vocabulary, which is not read yet.
      pending_marker_ = marker;
      pending_index_ = parts_.stages.size();
    }
    return {};
  }

  Result<TextPrefix::When> read_scheme(const Json& json) const {
    const std::string scheme = text(json, "prepend_scheme", flag(json, "add_prefix_space", true) ? "always" : "never");
    if (scheme == "always") return TextPrefix::kAlways;
    if (scheme == "first") return TextPrefix::kFirst;
    if (scheme == "never") return TextPrefix::kNever;
    return unsupported("prepend scheme", scheme);
  }

  // A byte-level stage that nothing follows needs no spelling: the model works on bytes.
  void finish_byte_level() {
    bytes_ = byte_level_;
    parts_.spelled_bytes = byte_spelled_;
  }

  // A model that never looks across a marker may have its text cut there, which keeps pieces short.
  Result<void> place_marker_stages() {
    if (pending_marker_) {
      const MarkerCut cut = parts_.model->separable_at(*pending_marker_) ? MarkerCut::kRuns : MarkerCut::kNone;
      parts_.stages.insert(parts_.stages.begin() + static_cast<std::ptrdiff_t>(pending_index_),
                           make_marker_stage(*pending_marker_, true, cut));
    } else if (parts_.stages.empty() && !bytes_ && parts_.model->separable_at(kMarker)) {
      parts_.stages.push_back(make_marker_stage(std::string(kMarker), false, MarkerCut::kRuns));
    }
    return {};
  }

  Result<void> read_added(const Json& json) {
    if (json.is_null()) return {};
    for (const Json& entry : json) {
      const auto id = whole_number(field(entry, "id"));
      const Json& content = field(entry, "content");
      if (!id || !content.is_string()) {
        return fail(ErrorCode::kCorrupt, "[tokenizer] an added token without id or content ({})", origin_);
      }
      AddedToken token;
      token.content = content.get<std::string>();
      if (token.content.empty()) continue;
      token.special = flag(entry, "special", false);
      token.single_word = flag(entry, "single_word", false);
      token.lstrip = flag(entry, "lstrip", false);
      token.rstrip = flag(entry, "rstrip", false);
      token.normalized = flag(entry, "normalized", !token.special);
      added_ids_.push_back(*id);
      parts_.added.push_back(std::move(token));
    }
    return {};
  }

  // Builds the vocabulary of the model's tokens and the added ones.
  Result<void> build_vocabulary(std::vector<std::pair<std::string, std::int64_t>> tokens) {
    for (std::size_t i = 0; i < parts_.added.size(); ++i) tokens.emplace_back(parts_.added[i].content, added_ids_[i]);
    KRAIT_ASSIGN(parts_.vocabulary, Vocabulary::build(std::move(tokens), origin_));
    for (std::size_t i = 0; i < parts_.added.size(); ++i) parts_.added[i].id = static_cast<TokenId>(added_ids_[i]);
    return {};
  }

  Result<void> read_model(const Json& json) {
    if (!json.is_object()) return fail(ErrorCode::kCorrupt, "[tokenizer] no model ({})", origin_);
    // Old files leave the type out.
    const std::string type = text(json, "type", field(json, "merges").is_null() ? "Unigram" : "BPE");
    if (type == "BPE") return read_bpe(json);
    if (type == "Unigram") return read_unigram(json);
    return unsupported("model", type);
  }

  Result<void> read_bpe(const Json& json) {
    for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!text(json, affix).empty()) return unsupported("BPE option", affix);
    }
    if (const Json& dropout = field(json, "dropout"); dropout.is_number() && dropout.get<double>() != 0) {
      return unsupported("BPE option", "dropout");
    }
    const Json& vocab = field(json, "vocab");
    if (!vocab.is_object() || vocab.empty()) {
      return fail(ErrorCode::kCorrupt, "[tokenizer] BPE model without a vocabulary ({})", origin_);
    }
    std::vector<std::pair<std::string, std::int64_t>> tokens;
    tokens.reserve(vocab.size());
    for (const auto& [token, value] : vocab.items()) {
      const auto id = whole_number(value);
      if (!id) return fail(ErrorCode::kCorrupt, "[tokenizer] id of token '{}' is no integer ({})", token, origin_);
      tokens.emplace_back(token, *id);
    }
    KRAIT_ASSIGN(const Vocabulary own, Vocabulary::build(tokens, origin_));

    BpeParts model;
    model.bytes = bytes_;
    model.fuse_unknown = flag(json, "fuse_unk", false);
    model.byte_fallback = flag(json, "byte_fallback", false);
    model.ignore_merges = flag(json, "ignore_merges", false);
    if (const std::string unknown = text(json, "unk_token"); !unknown.empty()) {
      model.unknown = own.find(unknown);
      if (!model.unknown) {
        return fail(ErrorCode::kCorrupt, "[tokenizer] unknown token '{}' is not in the vocabulary ({})", unknown,
                    origin_);
      }
    }
    KRAIT_TRY(read_merges(field(json, "merges"), own, model));
    model.tokens.reserve(tokens.size());
    for (const auto& [token, id] : tokens) {
      if (!bytes_) {
        model.tokens.emplace_back(token, static_cast<TokenId>(id));
      } else if (auto raw = unspell_bytes(token)) {
        // Tokens outside the byte alphabet are out of the model's reach; only added tokens can be so.
        model.tokens.emplace_back(*std::move(raw), static_cast<TokenId>(id));
      }
    }
    parts_.kind = "bpe";
    parts_.model = make_bpe_model(std::move(model));
    return build_vocabulary(std::move(tokens));
  }

  Result<void> read_merges(const Json& json, const Vocabulary& vocabulary, BpeParts& model) const {
    if (!json.is_null() && !json.is_array()) {
      return fail(ErrorCode::kCorrupt, "[tokenizer] merges are no array ({})", origin_);
    }
    model.merges = MergeTable(json.size());
    std::uint32_t rank = 0;
    for (const Json& entry : json) {
      std::string left;
      std::string right;
      if (entry.is_string()) {
        const auto& line = entry.get_ref<const std::string&>();
        const std::size_t space = line.find(' ');
        if (space != std::string::npos) {
          left = line.substr(0, space);
          right = line.substr(space + 1);
        }
      } else if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
        left = entry[0].get<std::string>();
        right = entry[1].get<std::string>();
      }
      if (left.empty() || right.empty()) {
        return fail(ErrorCode::kCorrupt, "[tokenizer] merge {} is not a pair of tokens ({})", rank, origin_);
      }
      const auto left_id = vocabulary.find(left);
      const auto right_id = vocabulary.find(right);
      const auto merged = vocabulary.find(left + right);
      if (!left_id || !right_id || !merged) {
        return fail(ErrorCode::kCorrupt, "[tokenizer] merge {} ('{}' and '{}') names a token that is not there ({})",
                    rank, left, right, origin_);
      }
      model.merges.insert(*left_id, *right_id, {rank, *merged});
      ++rank;
    }
    return {};
  }

  Result<void> read_unigram(const Json& json) {
    if (bytes_) return unsupported("byte-level model", "Unigram");
    const Json& vocab = field(json, "vocab");
    if (!vocab.is_array() || vocab.empty()) {
      return fail(ErrorCode::kCorrupt, "[tokenizer] Unigram model without a vocabulary ({})", origin_);
    }
    UnigramParts model;
    std::vector<std::pair<std::string, std::int64_t>> tokens;
    for (const Json& entry : vocab) {
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number() ||
          !std::isfinite(entry[1].get<double>())) {
        return fail(ErrorCode::kCorrupt, "[tokenizer] Unigram entry {} is not a token and a score ({})",
                    model.tokens.size(), origin_);
      }
      tokens.emplace_back(entry[0].get<std::string>(), static_cast<std::int64_t>(tokens.size()));
      model.tokens.emplace_back(entry[0].get<std::string>(), entry[1].get<double>());
    }
    model.byte_fallback = flag(json, "byte_fallback", false);
    if (const Json& unknown = field(json, "unk_id"); !unknown.is_null()) {
      const auto id = whole_number(unknown);
      if (!id || *id < 0 || *id >= static_cast<std::int64_t>(tokens.size())) {
        return fail(ErrorCode::kCorrupt, "[tokenizer] unk_id {} is outside a vocabulary of {} ({})", unknown.dump(),
                    tokens.size(), origin_);
      }
      model.unknown = static_cast<TokenId>(*id);
    }
    parts_.kind = "unigram";
    parts_.model = make_unigram_model(std::move(model));
    return build_vocabulary(std::move(tokens));
  }

  Result<void> read_decoder(const Json& json, int depth) {
    KRAIT_TRY(check_depth(depth));
    const std::string type = text(json, "type");
    auto& steps = parts_.decoder.steps;
    if (type == "Sequence") {
      for (const Json& inner : field(json, "decoders")) KRAIT_TRY(read_decoder(inner, depth + 1));
      return {};
    }
    if (fused_ && type != "Strip") return unsupported("decoder after Fuse", type);
    if (type == "ByteLevel") {
      steps.push_back({DecoderStep::kByteLevel, {}, {}});
    } else if (type == "ByteFallback") {
      steps.push_back({DecoderStep::kByteFallback, {}, {}});
    } else if (type == "Fuse") {
      fused_ = true;
    } else if (type == "Replace") {
      KRAIT_ASSIGN(const Pattern pattern, read_pattern(field(json, "pattern")));
      if (pattern.literal.empty()) return unsupported("decoder Replace with", "Regex");
      steps.push_back({DecoderStep::kReplace, pattern.literal, text(json, "content")});
    } else if (type == "Metaspace") {
      // Only the one space that encoding put in front is dropped, so that a text that begins with spaces comes back.
      KRAIT_ASSIGN(const TextPrefix::When when, read_scheme(json));
      steps.push_back({DecoderStep::kReplace, text(json, "replacement", std::string(kMarker)), " "});
      if (when != TextPrefix::kNever) parts_.decoder.start.assign(1, ' ');
    } else if (type == "Strip") {
      return read_strip(json);
    } else {
      return unsupported("decoder", type);
    }
    return {};
  }

  Result<void> read_strip(const Json& json) {
    const auto start = whole_number(field(json, "start")).value_or(0);
    const auto stop = whole_number(field(json, "stop")).value_or(0);
    const std::string content = text(json, "content", " ");
    if (start < 0 || stop < 0 || start > kDeepest || stop > kDeepest) {
      return fail(ErrorCode::kCorrupt, "[tokenizer] decoder Strip of {} and {} ({})", start, stop, origin_);
    }
    if (!fused_) {
      parts_.decoder.steps.push_back(
          {DecoderStep::kStrip, content, {}, static_cast<std::size_t>(start), static_cast<std::size_t>(stop)});
      return {};
    }
    // Of a whole text only one character in front can be dropped while it is still being written.
    if (start > 1 || stop > 0) return unsupported("decoder after Fuse", "Strip of more than one in front");
    if (start == 1) parts_.decoder.start = content;
    return {};
  }

  // {"SpecialToken": {"id": …}} before and after {"Sequence": …} in the template of a single text.
  void read_post_processor(const Json& json, int depth) {
    if (depth > kDeepest) return;
    const std::string type = text(json, "type");
    if (type == "Sequence") {
      for (const Json& inner : field(json, "processors")) read_post_processor(inner, depth + 1);
    }
    if (type != "TemplateProcessing") return;
    const Json& single = field(json, "single");
    if (!single.is_array()) return;
    bool before = true;
    for (const Json& item : single) {
      if (!field(item, "Sequence").is_null()) before = false;
      const auto id = parts_.vocabulary.find(text(field(item, "SpecialToken"), "id"));
      if (!id) continue;
      if (before && !parts_.bos) {
        parts_.bos = id;
        parts_.adds_bos = true;
      } else if (!before && !parts_.eos) {
        parts_.eos = id;
      }
    }
  }

  const std::string& origin_;
  TokenizerParts parts_;
  std::vector<std::int64_t> added_ids_;
  bool byte_level_ = false;    // the last pre-tokenizer so far is ByteLevel
  bool byte_spelled_ = false;  // a stage spells bytes, so the model works on their characters
  bool bytes_ = false;         // the model works on bytes
  bool fused_ = false;
  std::optional<std::string> pending_marker_;
  std::size_t pending_index_ = 0;
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> parse_tokenizer_json(std::string_view json, const std::string& origin) {
  return JsonReader(origin).read(json);
}

}  // namespace krait::formats
