// tokenizer.json from the metadata of a GGUF. What tokenizer_gguf.cpp does with the keys is spelled out here.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "krait/formats/gguf_types.h"
#include "krait/formats/tokenizer.h"
#include "krait/formats/tokenizer_conversion.h"
#include "krait/formats/tokenizer_pretokenizer.h"
#include "krait/formats/tokenizer_split_schemes.h"
#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kMarker = "\u2581";

class JsonWriter {
 public:
  explicit JsonWriter(const Config& metadata) : metadata_(metadata) {}

  Result<VocabularyFiles> write() {
    // The reader checks the keys, and knows what they mean for both ends of a text.
    KRAIT_ASSIGN(const auto tokenizer, tokenizer_from_gguf(metadata_));
    KRAIT_ASSIGN(const std::string model, metadata_.text("tokenizer.ggml.model"));
    if (model != "gpt2" && model != "llama") {
      return fail(ErrorCode::kUnsupported, "[tokenizer] tokenizer.ggml.model '{}' cannot be a tokenizer.json ({})",
                  model, metadata_.origin());
    }
    KRAIT_TRY(read_vocabulary());
    root_ = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}, {"added_tokens", added_}};
    if (model == "gpt2") {
      KRAIT_TRY(byte_level());
    } else {
      KRAIT_TRY(scored());
    }
    root_["post_processor"] = tokenizer->adds_bos() && tokenizer->bos() ? bos_template(*tokenizer->bos()) : Json();
    Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"add_bos_token", tokenizer->adds_bos()}};
    if (tokenizer->bos()) config["bos_token"] = tokens_[static_cast<std::size_t>(*tokenizer->bos())];
    if (tokenizer->eos()) config["eos_token"] = tokens_[static_cast<std::size_t>(*tokenizer->eos())];
    if (!unknown_.empty()) config["unk_token"] = unknown_;
    if (const auto chat = metadata_.text("tokenizer.chat_template")) config["chat_template"] = *chat;
    try {
      return VocabularyFiles{root_.dump(1) + "\n", config.dump(1) + "\n", std::move(losses_)};
    } catch (const Json::type_error&) {
      return fail(ErrorCode::kCorrupt, "[tokenizer] a token is not UTF-8 ({})", metadata_.origin());
    }
  }

 private:
  Result<void> read_vocabulary() {
    KRAIT_ASSIGN(tokens_, metadata_.texts("tokenizer.ggml.tokens"));
    types_.assign(tokens_.size(), kGgufNormalToken);
    if (metadata_.has("tokenizer.ggml.token_type")) {
      KRAIT_ASSIGN(types_, metadata_.integers("tokenizer.ggml.token_type"));
    }
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      const std::int64_t type = types_[i];
      if (type == kGgufUnusedToken) continue;
      const auto [place, fresh] = ids_.emplace(tokens_[i], i);
      if (!fresh) {
        return fail(ErrorCode::kUnsupported, "[tokenizer] token '{}' stands twice, as {} and {} ({})", tokens_[i],
                    place->second, i, metadata_.origin());
      }
      vocabulary_[tokens_[i]] = i;
      if (type == kGgufUnknownToken) unknown_ = tokens_[i];
      if (tokens_[i].empty()) continue;
      if (type != kGgufUnknownToken && type != kGgufControlToken && type != kGgufUserDefinedToken) continue;
      added_.push_back({{"id", i},
                        {"content", tokens_[i]},
                        {"single_word", false},
                        {"lstrip", false},
                        {"rstrip", false},
                        {"normalized", false},
                        {"special", type != kGgufUserDefinedToken}});
    }
    return {};
  }

  Json model() const {
    return {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocabulary_}};
  }

  Json bos_template(TokenId bos) const {
    const std::string& name = tokens_[static_cast<std::size_t>(bos)];
    const Json special = {{"SpecialToken", {{"id", name}, {"type_id", 0}}}};
    const auto sequence = [](const char* id, int type) -> Json {
      return {{"Sequence", {{"id", id}, {"type_id", type}}}};
    };
    return {{"type", "TemplateProcessing"},
            {"single", Json::array({special, sequence("A", 0)})},
            {"pair", Json::array({special, sequence("A", 0), sequence("B", 1)})},
            {"special_tokens", {{name, {{"id", name}, {"ids", Json::array({bos})}, {"tokens", Json::array({name})}}}}}};
  }

  Result<void> byte_level() {
    KRAIT_ASSIGN(const std::string pre, metadata_.text_or("tokenizer.ggml.pre", "default"));
    const SplitScheme& scheme = *find_split_scheme(pre);  // the reader found it
    KRAIT_ASSIGN(const bool prefix, metadata_.boolean_or("tokenizer.ggml.add_space_prefix", false));
    const bool plain = scheme.patterns.size() == 1 && scheme.patterns.front() == kGpt2Pattern;
    if (prefix && !plain) {
      return fail(ErrorCode::kUnsupported,
                  "[tokenizer] tokenizer.ggml.add_space_prefix with the split pattern '{}' cannot be a tokenizer.json "
                  "({})",
                  pre, metadata_.origin());
    }
    const Json stage = {
        {"type", "ByteLevel"}, {"add_prefix_space", prefix}, {"trim_offsets", true}, {"use_regex", plain}};
    if (plain) {
      root_["pre_tokenizer"] = stage;
    } else {
      Json stages = Json::array();
      for (const std::string_view pattern : scheme.patterns) {
        stages.push_back(
            {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
      }
      stages.push_back(stage);
      root_["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", std::move(stages)}};
    }
    root_["normalizer"] = nullptr;
    root_["decoder"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
    root_["model"] = model();
    root_["model"]["ignore_merges"] = scheme.ignore_merges;
    KRAIT_ASSIGN(root_["model"]["merges"], metadata_.texts("tokenizer.ggml.merges"));
    return {};
  }

  // Any two tokens whose concatenation is a token merge, higher scores first.
  Result<void> scored() {
    KRAIT_ASSIGN(const std::vector<double> scores, metadata_.numbers("tokenizer.ggml.scores"));
    if (scores.size() != tokens_.size() || std::ranges::any_of(scores, [](double s) { return std::isnan(s); })) {
      return fail(ErrorCode::kCorrupt,
                  "[tokenizer] tokenizer.ggml.scores has {} numbers for {} tokens, or one that is no number",
                  scores.size(), tokens_.size());
    }
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      if (is_plain(i)) order.push_back(i);
    }
    std::ranges::sort(
        order, [&](std::size_t a, std::size_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; });
    Json merges = Json::array();
    std::size_t lost = 0;
    for (const std::size_t i : order) {
      const std::string& token = tokens_[i];
      for (std::size_t at = 1; at < token.size(); ++at) {
        const Part left = part(token.substr(0, at)), right = part(token.substr(at));
        if (left == Part::kToken && right == Part::kToken) {
          merges.push_back({token.substr(0, at), token.substr(at)});
        } else if (left != Part::kNothing && right != Part::kNothing) {
          ++lost;
        }
      }
    }
    if (lost > 0) {
      losses_.push_back(fmt::format("{} merges of characters that are no tokens by themselves", lost));
    }
    KRAIT_ASSIGN(const bool prefix, metadata_.boolean_or("tokenizer.ggml.add_space_prefix", true));
    const Json marker = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kMarker}};
    Json steps = Json::array();
    if (prefix) steps.push_back({{"type", "Prepend"}, {"prepend", kMarker}});
    steps.push_back(marker);
    root_["normalizer"] = {{"type", "Sequence"}, {"normalizers", std::move(steps)}};
    root_["pre_tokenizer"] = nullptr;
    Json decoders = Json::array({{{"type", "Replace"}, {"pattern", {{"String", kMarker}}}, {"content", " "}},
                                 {{"type", "ByteFallback"}},
                                 {{"type", "Fuse"}}});
    if (prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    root_["decoder"] = {{"type", "Sequence"}, {"decoders", std::move(decoders)}};
    root_["model"] = model();
    if (!unknown_.empty()) root_["model"]["unk_token"] = unknown_;
    root_["model"]["byte_fallback"] = true;
    root_["model"]["merges"] = std::move(merges);
    return {};
  }

  bool is_plain(std::size_t i) const {
    return types_[i] != kGgufUnknownToken && types_[i] != kGgufControlToken && types_[i] != kGgufUserDefinedToken &&
           types_[i] != kGgufUnusedToken;
  }

  enum class Part { kNothing, kCharacter, kToken };
  Part part(const std::string& text) const {
    if (const auto found = ids_.find(text); found != ids_.end() && is_plain(found->second)) return Part::kToken;
    const Utf8Step step = read_utf8(text, 0);
    return step.status == Utf8Step::kValid && step.length == text.size() ? Part::kCharacter : Part::kNothing;
  }

  const Config& metadata_;
  std::vector<std::string> tokens_;
  std::vector<std::int64_t> types_;
  std::unordered_map<std::string, std::size_t> ids_;
  std::string unknown_;
  Json vocabulary_ = Json::object(), added_ = Json::array(), root_;
  std::vector<std::string> losses_;
};

}  // namespace

Result<VocabularyFiles> vocabulary_from_gguf(const Config& metadata) { return JsonWriter(metadata).write(); }

}  // namespace krait::formats
