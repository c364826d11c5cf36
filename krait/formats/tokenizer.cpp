// Opening a tokenizer by its path, with what the files beside it say of the ends of a text; and decoding token by
// token into valid UTF-8.
#include "krait/formats/tokenizer.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "krait/formats/gguf.h"
#include "krait/formats/mapped_file.h"
#include "krait/formats/tokenizer_pipeline.h"
#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

Result<std::string> read_file(const fs::path& path) {
  constexpr std::uintmax_t kLargest = std::uintmax_t{1} << 30;
  std::error_code error;
  const std::uintmax_t size = fs::file_size(path, error);
  if (error) return fail(ErrorCode::kInputOutput, "[tokenizer] cannot read {}: {}", path.string(), error.message());
  if (size > kLargest) {
    return fail(ErrorCode::kCorrupt, "[tokenizer] too large: {} > {} bytes ({})", size, kLargest, path.string());
  }
  std::string bytes(static_cast<std::size_t>(size), '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!file) return fail(ErrorCode::kInputOutput, "[tokenizer] cannot read {}", path.string());
  return bytes;
}

// A JSON object from a file beside the tokenizer; an empty one where there is none that can be read.
Json read_object(const fs::path& path) {
  if (!fs::is_regular_file(path)) return Json::object();
  const auto bytes = read_file(path);
  if (!bytes) return Json::object();
  Json object = Json::parse(*bytes, nullptr, false);
  return object.is_object() ? std::move(object) : Json::object();
}

// "bos_token": "<s>" or {"content": "<s>"}.
std::optional<TokenId> named_token(const Tokenizer& tokenizer, const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return std::nullopt;
  if (found->is_string()) return tokenizer.token_to_id(found->get_ref<const std::string&>());
  if (!found->is_object() || !found->contains("content") || !(*found)["content"].is_string()) return std::nullopt;
  return tokenizer.token_to_id((*found)["content"].get_ref<const std::string&>());
}

// "eos_token_id": 2 or [2, 32000].
std::optional<TokenId> numbered_token(const Tokenizer& tokenizer, const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return std::nullopt;
  const Json& value = found->is_array() && !found->empty() ? found->front() : *found;
  if (!value.is_number_integer()) return std::nullopt;
  const auto id = value.get<std::int64_t>();
  if (id < 0 || id >= tokenizer.size()) return std::nullopt;
  return static_cast<TokenId>(id);
}

// tokenizer_config.json names the tokens, special_tokens_map.json repeats them; generation_config.json and
// config.json know only numbers.
BoundaryTokens read_boundary_tokens(const Tokenizer& tokenizer, const fs::path& directory) {
  BoundaryTokens tokens;
  const Json config = read_object(directory / "tokenizer_config.json");
  if (const auto adds = config.find("add_bos_token"); adds != config.end() && adds->is_boolean()) {
    tokens.adds_bos = adds->get<bool>();
  }
  const Json map = read_object(directory / "special_tokens_map.json");
  for (const Json* names : {&config, &map}) {
    if (!tokens.bos) tokens.bos = named_token(tokenizer, *names, "bos_token");
    if (!tokens.eos) tokens.eos = named_token(tokenizer, *names, "eos_token");
  }
  const Json generation = read_object(directory / "generation_config.json");
  const Json model = read_object(directory / "config.json");
  for (const Json* numbers : {&generation, &model}) {
    if (!tokens.bos && !tokenizer.bos()) tokens.bos = numbered_token(tokenizer, *numbers, "bos_token_id");
    if (!tokens.eos && !tokenizer.eos()) tokens.eos = numbered_token(tokenizer, *numbers, "eos_token_id");
  }
  return tokens;
}

// tokenizer.model, or a name such as tokenizer.model.v3.
bool is_sentencepiece_name(const std::string& name) {
  return name.ends_with(".model") || name.find(".model.v") != std::string::npos;
}

bool is_world_name(const std::string& name) { return name.starts_with("rwkv_vocab") && name.ends_with(".txt"); }

Result<fs::path> tokenizer_file(const fs::path& directory) {
  for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
    if (fs::is_regular_file(directory / name)) return directory / name;
  }
  for (const auto& is_one : {is_sentencepiece_name, is_world_name}) {
    std::vector<fs::path> found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(directory, error)) {
      if (entry.is_regular_file(error) && is_one(entry.path().filename().string())) found.push_back(entry.path());
    }
    if (!found.empty()) return *std::ranges::max_element(found);  // the highest version
  }
  return fail(ErrorCode::kNotFound, "[tokenizer] neither tokenizer.json nor tokenizer.model nor rwkv_vocab*.txt in {}",
              directory.string());
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> open_tokenizer(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return fail(ErrorCode::kNotFound, "[tokenizer] no such file: {}", path.string());
  fs::path file = path;
  if (fs::is_directory(path, error)) {
    KRAIT_ASSIGN(file, tokenizer_file(path));
  }
  const std::string name = file.filename().string();
  if (name.ends_with(".gguf")) {
    KRAIT_ASSIGN(const MappedFile mapped, MappedFile::open(file));
    KRAIT_ASSIGN(const Config metadata, parse_gguf_metadata(mapped.bytes(), mapped.name()));
    return tokenizer_from_gguf(metadata);
  }
  KRAIT_ASSIGN(const std::string bytes, read_file(file));
  std::unique_ptr<Tokenizer> tokenizer;
  if (is_world_name(name)) return parse_world_vocabulary(bytes, file.string());
  if (is_sentencepiece_name(name)) {
    KRAIT_ASSIGN(tokenizer, parse_sentencepiece_model(bytes, file.string()));
  } else {
    KRAIT_ASSIGN(tokenizer, parse_tokenizer_json(bytes, file.string()));
  }
  const BoundaryTokens tokens = read_boundary_tokens(*tokenizer, file.parent_path());
  return with_boundary_tokens(std::move(tokenizer), tokens);
}

TokenDecoder::TokenDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special) {}

std::string TokenDecoder::feed(TokenId id) {
  if (skip_special_ && tokenizer_.is_special(id)) return {};
  std::string_view bytes = tokenizer_.token_bytes(id);
  if (at_start_ && !bytes.empty()) {
    at_start_ = false;
    if (bytes.starts_with(tokenizer_.start_drop())) bytes.remove_prefix(tokenizer_.start_drop().size());
  }
  pending_.append(bytes);
  std::string text;
  std::size_t at = 0;
  while (at < pending_.size()) {
    const std::size_t end = valid_utf8_end(pending_, at);
    text.append(pending_, at, end - at);
    at = end;
    if (at == pending_.size()) break;
    const Utf8Step step = read_utf8(pending_, at);
    if (step.status == Utf8Step::kIncomplete) break;
    append_utf8(0xFFFD, text);
    at += step.length;
  }
  pending_.erase(0, at);
  return text;
}

std::string TokenDecoder::finish() {
  std::string text;
  // What is held back is the beginning of one character.
  if (!pending_.empty()) append_utf8(0xFFFD, text);
  pending_.clear();
  at_start_ = true;
  return text;
}

}  // namespace krait::formats
