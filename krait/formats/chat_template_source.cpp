// Where a model keeps its chat templates: files beside its tokenizer, or the metadata of a GGUF. What transformers
// finds first is found first here.
#include <algorithm>

#include "krait/formats/chat_template.h"
#include "krait/formats/chat_template_context.h"
#include "krait/formats/chat_template_json.h"
#include "krait/formats/gguf.h"
#include "krait/formats/mapped_file.h"

namespace krait::formats {
namespace {

namespace fs = std::filesystem;
using jinja::Value;

Result<void> add(ChatTemplateSet& set, std::string name, std::string_view text, const std::string& file) {
  std::string origin = name == "default" ? file : fmt::format("{}, template {}", file, name);
  KRAIT_ASSIGN(ChatTemplate parsed, ChatTemplate::parse(text, std::move(origin)));
  set.templates.insert_or_assign(std::move(name), std::move(parsed));
  return {};
}

// "chat_template": one text, or a list of {"name": …, "template": …}, or an object of texts.
Result<void> add_value(ChatTemplateSet& set, const Value& value, const std::string& file) {
  if (value.is_string()) return add(set, "default", value.text(), file);
  if (value.is_dict()) {
    for (const auto& [name, text] : value.dict().entries()) {
      if (text.is_string()) KRAIT_TRY(add(set, name.text(), text.text(), file));
    }
    return {};
  }
  if (!value.is_sequence()) return {};
  for (const Value& entry : value.items()) {
    const Value* name = entry.is_dict() ? entry.dict().find("name") : nullptr;
    const Value* text = entry.is_dict() ? entry.dict().find("template") : nullptr;
    if (name == nullptr || text == nullptr || !name->is_string() || !text->is_string()) {
      return fail(ErrorCode::kCorrupt, "[chat template] an entry of \"chat_template\" has no name or no template ({})",
                  file);
    }
    KRAIT_TRY(add(set, name->text(), text->text(), file));
  }
  return {};
}

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

// A JSON object from a file; an undefined value where there is no file.
Result<Value> read_object(const fs::path& path) {
  if (!fs::is_regular_file(path)) return Value();
  KRAIT_ASSIGN(const MappedFile file, MappedFile::open(path));
  auto value = jinja::read_json(text_of(file), "the file");
  if (value && value->is_dict()) return value;
  return fail(ErrorCode::kCorrupt, "[chat template] not a JSON object ({}){}", path.string(),
              value ? "" : fmt::format(": {}", value.error().message));
}

Result<void> add_file(ChatTemplateSet& set, std::string name, const fs::path& path) {
  KRAIT_ASSIGN(const MappedFile file, MappedFile::open(path));
  return add(set, std::move(name), text_of(file), path.string());
}

Result<void> add_json(ChatTemplateSet& set, const fs::path& path) {
  KRAIT_ASSIGN(const Value object, read_object(path));
  const Value* found = object.is_dict() ? object.dict().find("chat_template") : nullptr;
  return found == nullptr ? Result<void>() : add_value(set, *found, path.string());
}

Result<void> add_folder(ChatTemplateSet& set, const fs::path& folder) {
  const fs::path jinja = folder / "chat_template.jinja";
  if (fs::is_regular_file(jinja)) KRAIT_TRY(add_file(set, "default", jinja));
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder / "additional_chat_templates", error)) {
    if (!entry.is_regular_file(error) || entry.path().extension() != ".jinja") continue;
    KRAIT_TRY(add_file(set, entry.path().stem().string(), entry.path()));
  }
  for (const char* name : {"tokenizer_config.json", "chat_template.json"}) {
    if (set.templates.empty()) KRAIT_TRY(add_json(set, folder / name));
  }
  return {};
}

// "bos_token": "<s>" or {"content": "<s>"}.
Result<void> add_special_tokens(ChatTemplateSet& set, const fs::path& folder) {
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    KRAIT_ASSIGN(const Value object, read_object(folder / name));
    if (!object.is_dict()) continue;
    for (const auto& [key, value] : object.dict().entries()) {
      if (!key.text().ends_with("_token")) continue;
      const Value* content = value.is_dict() ? value.dict().find("content") : &value;
      if (content != nullptr && content->is_string()) set.special_tokens.try_emplace(key.text(), content->text());
    }
  }
  return {};
}

}  // namespace

Result<const ChatTemplate*> ChatTemplateSet::choose(bool has_tools) const {
  const auto tool_use = templates.find("tool_use");
  if (has_tools && tool_use != templates.end()) return &tool_use->second;
  const auto found = templates.find("default");
  if (found != templates.end()) return &found->second;
  if (templates.size() == 1) return &templates.begin()->second;
  std::string names;
  for (const auto& [name, ignored] : templates) names += (names.empty() ? "" : ", ") + name;
  return fail(ErrorCode::kNotFound, "[chat template] none is named \"default\": the model has {}",
              names.empty() ? "none" : names);
}

Result<void> ChatTemplateSet::add_special_tokens(ChatContext& context) const {
  for (const auto& [name, text] : special_tokens) {
    if (context.variables().dict.find(name) == nullptr) KRAIT_TRY(context.set_text(name, text));
  }
  return {};
}

Result<ChatTemplateSet> chat_template_from_gguf(const Config& metadata) {
  constexpr std::string_view kKey = "tokenizer.chat_template";
  ChatTemplateSet set;
  for (const auto& [key, value] : metadata.values()) {
    const auto* text = std::get_if<std::string>(&value);
    if (text == nullptr || !key.starts_with(kKey)) continue;
    if (key.size() == kKey.size()) {
      KRAIT_TRY(add(set, "default", *text, metadata.origin()));
    } else if (key[kKey.size()] == '.') {
      KRAIT_TRY(add(set, key.substr(kKey.size() + 1), *text, metadata.origin()));
    }
  }
  if (set.templates.empty()) {
    return fail(ErrorCode::kNotFound, "[chat template] no {} ({})", kKey, metadata.origin());
  }
  const auto* tokens = std::get_if<std::vector<std::string>>(metadata.find("tokenizer.ggml.tokens"));
  for (const auto& [name, key] : {std::pair{"bos_token", "tokenizer.ggml.bos_token_id"},
                                  {"eos_token", "tokenizer.ggml.eos_token_id"},
                                  {"unk_token", "tokenizer.ggml.unknown_token_id"},
                                  {"pad_token", "tokenizer.ggml.padding_token_id"}}) {
    if (!metadata.has(key)) continue;
    KRAIT_ASSIGN(const std::int64_t id, metadata.integer(key));
    if (tokens == nullptr || id < 0 || static_cast<std::uint64_t>(id) >= tokens->size()) {
      return fail(ErrorCode::kCorrupt, "[chat template] {} is {}, outside a vocabulary of {} ({})", key, id,
                  tokens == nullptr ? 0 : tokens->size(), metadata.origin());
    }
    set.special_tokens.emplace(name, (*tokens)[static_cast<std::size_t>(id)]);
  }
  return set;
}

Result<ChatTemplateSet> open_chat_template(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return fail(ErrorCode::kNotFound, "[chat template] no such file: {}", path.string());
  const std::string name = path.filename().string();
  if (name.ends_with(".gguf")) {
    KRAIT_ASSIGN(const MappedFile mapped, MappedFile::open(path));
    KRAIT_ASSIGN(const Config metadata, parse_gguf_metadata(mapped.bytes(), mapped.name()));
    return chat_template_from_gguf(metadata);
  }
  const bool is_folder = fs::is_directory(path, error);
  const fs::path folder = is_folder ? path : path.parent_path();
  ChatTemplateSet set;
  if (name.ends_with(".jinja")) {
    KRAIT_TRY(add_file(set, "default", path));
  } else if (name == "chat_template.json" || name == "tokenizer_config.json") {
    KRAIT_TRY(add_json(set, path));
  } else {
    KRAIT_TRY(add_folder(set, folder));
  }
  if (set.templates.empty()) {
    return fail(ErrorCode::kNotFound,
                "[chat template] neither chat_template.jinja nor a \"chat_template\" in tokenizer_config.json or "
                "chat_template.json ({})",
                path.string());
  }
  KRAIT_TRY(add_special_tokens(set, folder));
  return set;
}

}  // namespace krait::formats
