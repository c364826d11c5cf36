// The "tokenizer.ggml.*" keys of a GGUF from tokenizer.json. Only what the keys can say in full is written: what the
// model makes of a text must not depend on the file it comes from.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "krait/formats/gguf_types.h"
#include "krait/formats/mapped_file.h"
#include "krait/formats/tokenizer.h"
#include "krait/formats/tokenizer_conversion.h"
#include "krait/formats/tokenizer_pretokenizer.h"
#include "krait/formats/tokenizer_split_schemes.h"
#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr std::string_view kMarker = "\u2581";

Result<Json> read_json(const fs::path& path) {
  KRAIT_ASSIGN(const MappedFile file, MappedFile::open(path));
  const auto* text = reinterpret_cast<const char*>(file.bytes().data());
  Json json = Json::parse(text, text + file.bytes().size(), nullptr, false);
  if (!json.is_object()) return fail(ErrorCode::kCorrupt, "[tokenizer] not a JSON object ({})", path.string());
  return json;
}

std::string kind_of(const Json& json) {
  return json.is_object() && json.contains("type") ? json["type"].get<std::string>() : std::string();
}

// A sequence of steps as the list of them, a single step as a list of one.
std::vector<Json> steps_of(const Json& json, const char* inner) {
  if (json.is_null()) return {};
  if (kind_of(json) != "Sequence") return {json};
  std::vector<Json> steps;
  for (const Json& step : json.at(inner)) {
    for (Json& deeper : steps_of(step, inner)) steps.push_back(std::move(deeper));
  }
  return steps;
}

class KeyWriter {
 public:
  KeyWriter(const Json& root, std::int64_t rows, const std::string& origin)
      : root_(root), rows_(rows), origin_(origin), keys_(origin) {}

  // Throws Json::exception for members of another kind than the reader found.
  Result<GgufVocabulary> write() {
    const Json& model = root_.at("model");
    if (kind_of(model) != "BPE" && !model.contains("merges")) return unsupported("a model of type " + kind_of(model));
    KRAIT_TRY(read_tokens(model));
    KRAIT_TRY(read_merges(model));
    if (model.value("byte_fallback", false)) {
      KRAIT_TRY(scored());
    } else {
      KRAIT_TRY(byte_level(model));
    }
    keys_.set("tokenizer.ggml.tokens", std::move(tokens_));
    keys_.set("tokenizer.ggml.token_type", std::move(types_));
    return GgufVocabulary{std::move(keys_), std::move(losses_)};
  }

 private:
  std::unexpected<Error> unsupported(const std::string& what) const {
    return fail(ErrorCode::kUnsupported, "[tokenizer] {} has no words among GGUF's keys ({})", what, origin_);
  }

  Result<void> read_tokens(const Json& model) {
    std::int64_t size = 0;
    const auto place = [&](const std::string& token, std::int64_t id, std::int64_t type) {
      tokens_[static_cast<std::size_t>(id)] = token;
      types_[static_cast<std::size_t>(id)] = type;
    };
    for (const auto& [token, id] : model.at("vocab").items()) size = std::max(size, id.get<std::int64_t>() + 1);
    for (const Json& added : root_.value("added_tokens", Json::array())) {
      size = std::max(size, added.at("id").get<std::int64_t>() + 1);
    }
    if (size > rows_) return unsupported(fmt::format("a vocabulary of {} tokens for an embedding of {}", size, rows_));
    for (std::int64_t id = 0; id < rows_; ++id) {
      tokens_.push_back(fmt::format("[PAD{}]", id));
      types_.push_back(kGgufUnusedToken);
    }
    const std::string unknown = model.contains("unk_token") && model["unk_token"].is_string()
                                    ? model["unk_token"].get<std::string>()
                                    : std::string();
    const bool bytes = model.value("byte_fallback", false);
    for (const auto& [token, id] : model.at("vocab").items()) {
      const bool byte = bytes && token.size() == 6 && token.starts_with("<0x") && token.ends_with('>');
      place(token, id.get<std::int64_t>(), byte ? kGgufByteToken : kGgufNormalToken);
    }
    bool flags = false;
    for (const Json& added : root_.value("added_tokens", Json::array())) {
      const bool special = added.value("special", false);
      place(added.at("content"), added.at("id").get<std::int64_t>(),
            special ? kGgufControlToken : kGgufUserDefinedToken);
      for (const char* flag : {"single_word", "lstrip", "rstrip"}) flags = flags || added.value(flag, false);
    }
    if (flags) losses_.emplace_back("single_word, lstrip and rstrip of added tokens");
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      if (unknown.empty() || tokens_[i] != unknown) continue;
      types_[i] = kGgufUnknownToken;
      keys_.set("tokenizer.ggml.unknown_token_id", static_cast<std::int64_t>(i));
    }
    return {};
  }

  Result<void> read_merges(const Json& model) {
    for (const Json& merge : model.at("merges")) {
      if (merge.is_array()) {
        merges_.emplace_back(merge.at(0), merge.at(1));
      } else {
        const std::string line = merge;
        const std::size_t space = line.find(' ');
        merges_.emplace_back(line.substr(0, space), line.substr(space + 1));
      }
    }
    return {};
  }

  Result<void> byte_level(const Json& model) {
    std::vector<std::string> patterns;
    bool bytes = false, prefix = false;
    for (const Json& stage : steps_of(root_.value("pre_tokenizer", Json()), "pretokenizers")) {
      const std::string kind = kind_of(stage);
      if (bytes) return unsupported("a stage after ByteLevel, " + kind + ",");
      if (kind == "ByteLevel") {
        bytes = true;
        prefix = stage.value("add_prefix_space", true);
        // A space goes before every piece if the text was split before.
        if (prefix && !patterns.empty()) return unsupported("add_prefix_space after a split");
        if (stage.value("use_regex", true)) patterns.emplace_back(kGpt2Pattern);
      } else if (kind == "Split" && stage.value("behavior", "") == "Isolated" && !stage.value("invert", false) &&
                 stage.at("pattern").contains("Regex")) {
        patterns.push_back(stage["pattern"]["Regex"]);
      } else if (kind == "Digits" && stage.value("individual_digits", false)) {
        patterns.emplace_back(R"(\p{N})");
      } else {
        return unsupported("the pre-tokenizer " + kind);
      }
    }
    if (!bytes) return unsupported("BPE without ByteLevel and without byte_fallback");
    const SplitScheme* scheme = find_split_scheme(patterns, model.value("ignore_merges", false));
    if (scheme == nullptr) {
      return unsupported(fmt::format("the split pattern {}", patterns.empty() ? "(none)" : patterns.front()));
    }
    for (const Json& step : steps_of(root_.value("normalizer", Json()), "normalizers")) {
      losses_.push_back("the normalizer " + kind_of(step));
    }
    std::vector<std::string> merges;
    merges.reserve(merges_.size());
    for (const auto& [left, right] : merges_) merges.push_back(left + " " + right);
    keys_.set("tokenizer.ggml.model", std::string("gpt2"));
    keys_.set("tokenizer.ggml.pre", std::string(scheme->first_name()));
    keys_.set("tokenizer.ggml.merges", std::move(merges));
    if (prefix) keys_.set("tokenizer.ggml.add_space_prefix", true);
    return {};
  }

  // SentencePiece's BPE: a space is a marker, and scores stand for the merges.
  Result<void> scored() {
    bool marks = false, prefix = false;
    for (const Json& step : steps_of(root_.value("normalizer", Json()), "normalizers")) {
      const std::string kind = kind_of(step);
      if (kind == "Prepend" && step.value("prepend", "") == kMarker) {
        prefix = true;
      } else if (kind == "Replace" && step.at("pattern").value("String", "") == " " &&
                 step.value("content", "") == kMarker) {
        marks = true;
      } else {
        return unsupported("the normalizer " + kind);
      }
    }
    for (const Json& stage : steps_of(root_.value("pre_tokenizer", Json()), "pretokenizers")) {
      const std::string kind = kind_of(stage);
      if (kind != "Metaspace" || stage.value("replacement", std::string(kMarker)) != kMarker) {
        return unsupported("the pre-tokenizer " + kind);
      }
      const std::string scheme =
          stage.value("prepend_scheme", stage.value("add_prefix_space", true) ? "always" : "never");
      marks = true;
      prefix = prefix || scheme != "never";
      if (scheme == "first") losses_.emplace_back("no space after added tokens (prepend_scheme first)");
    }
    if (!marks) return unsupported("BPE with byte_fallback and no marker for spaces");
    KRAIT_TRY(set_scores());
    keys_.set("tokenizer.ggml.model", std::string("llama"));
    keys_.set("tokenizer.ggml.pre", std::string("default"));
    keys_.set("tokenizer.ggml.add_space_prefix", prefix);
    return {};
  }

  // The earlier a token is merged, the higher its score; whatever the scores imply must be among the merges.
  Result<void> set_scores() {
    std::unordered_map<std::string, std::size_t> plain, rank;
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      if (types_[i] == kGgufNormalToken || types_[i] == kGgufByteToken) plain.emplace(tokens_[i], i);
    }
    std::unordered_map<std::string, std::size_t> splits;
    std::size_t last = 0;
    for (const auto& [left, right] : merges_) {
      const std::string token = left + right;
      const std::size_t here = rank.emplace(token, rank.size()).first->second;
      if (here < last || !plain.contains(left) || !plain.contains(right) || !plain.contains(token)) {
        return unsupported(fmt::format("the merge of '{}' and '{}', which no scores imply,", left, right));
      }
      last = here;
      ++splits[token];
    }
    for (const auto& [token, id] : plain) {
      std::size_t implied = 0;
      for (std::size_t at = 1; at < token.size(); ++at) {
        implied += is_part(plain, token.substr(0, at)) && is_part(plain, token.substr(at)) ? 1 : 0;
      }
      if (implied != splits[token]) {
        return unsupported(fmt::format("'{}' as {} merges, where scores imply {},", token, splits[token], implied));
      }
    }
    std::vector<double> scores(tokens_.size(), 0.0);
    for (const auto& [token, place] : rank) scores[plain[token]] = -static_cast<double>(place) - 1.0;
    keys_.set("tokenizer.ggml.scores", std::move(scores));
    return {};
  }

  // Characters merge whether they are tokens or not.
  static bool is_part(const std::unordered_map<std::string, std::size_t>& plain, const std::string& text) {
    if (plain.contains(text)) return true;
    const Utf8Step step = read_utf8(text, 0);
    return step.status == Utf8Step::kValid && step.length == text.size();
  }

  const Json& root_;
  std::int64_t rows_;
  const std::string& origin_;
  Config keys_;
  std::vector<std::string> tokens_;
  std::vector<std::int64_t> types_;
  std::vector<std::pair<std::string, std::string>> merges_;
  std::vector<std::string> losses_;
};

}  // namespace

Result<GgufVocabulary> vocabulary_to_gguf(const fs::path& folder, std::int64_t rows) {
  const fs::path path = folder / "tokenizer.json";
  std::error_code error;
  if (!fs::exists(path, error)) {
    return fail(ErrorCode::kNotFound, "[tokenizer] no tokenizer.json in {}", folder.string());
  }
  // The reader checks the file, and knows what stands beside it for both ends of a text.
  KRAIT_ASSIGN(const auto tokenizer, open_tokenizer(path));
  KRAIT_ASSIGN(const Json root, read_json(path));
  try {
    KRAIT_ASSIGN(GgufVocabulary vocabulary, KeyWriter(root, rows, path.string()).write());
    Config& keys = vocabulary.keys;
    if (tokenizer->bos()) keys.set("tokenizer.ggml.bos_token_id", static_cast<std::int64_t>(*tokenizer->bos()));
    if (tokenizer->eos()) keys.set("tokenizer.ggml.eos_token_id", static_cast<std::int64_t>(*tokenizer->eos()));
    keys.set("tokenizer.ggml.add_bos_token", tokenizer->adds_bos());
    if (fs::exists(folder / "tokenizer_config.json", error)) {
      KRAIT_ASSIGN(const Json beside, read_json(folder / "tokenizer_config.json"));
      const auto chat = beside.find("chat_template");
      if (chat != beside.end() && chat->is_string()) keys.set("tokenizer.chat_template", chat->get<std::string>());
    }
    // What cannot be read back would be worth nothing.
    KRAIT_TRY(tokenizer_from_gguf(keys));
    return vocabulary;
  } catch (const Json::exception& broken) {
    return fail(ErrorCode::kCorrupt, "[tokenizer] {} ({})", broken.what(), path.string());
  }
}

}  // namespace krait::formats
