// A model's chat template: the text, in a subset of Jinja, that turns a conversation into the prompt the model was
// trained on. Rendered as transformers' apply_chat_template does it; docs/formats.md says what is supported.
// Templates come with models and conversations with requests, so neither is trusted: nesting, work and output have
// limits, and every error names the template and the line.
#pragma once

#include <cstdint>
#include <ctime>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "krait/core/error.h"
#include "krait/formats/config.h"

namespace krait::formats {

// The variables that a template sees. Those of transformers are there from the start: messages (empty), tools and
// documents (none), add_generation_prompt (false).
class ChatContext {
 public:
  ChatContext();
  ChatContext(ChatContext&&) noexcept;
  ChatContext& operator=(ChatContext&&) noexcept;
  ~ChatContext();

  // A JSON object; each key becomes a variable: messages, tools, add_generation_prompt, and whatever else a request
  // gives to the template (enable_thinking, …). The order of keys is kept, so tools are shown as they were sent.
  static Result<ChatContext> parse(std::string_view json);

  // One variable more, or another value for it. kInvalidArgument for what is not JSON, or text that is not UTF-8.
  Result<void> set_json(std::string_view name, std::string_view json);
  Result<void> set_text(std::string_view name, std::string_view text);
  void set_flag(std::string_view name, bool value);

  // Requests of OpenAI's kind carry the arguments of a tool call as a string that holds JSON, and contents as lists of
  // parts; most templates want an object and a string. These rewrite the messages: arguments that are a JSON object
  // in a string become the object, contents that are text parts alone become their texts, joined by line ends.
  void unpack_tool_arguments();
  void join_text_parts();

  struct Variables;
  const Variables& variables() const { return *variables_; }

 private:
  std::unique_ptr<Variables> variables_;
};

struct ChatTemplateLimits {
  // Each node of the template visited, element walked and 32 bytes of text made is a step; 1000 messages take some
  // hundred thousand, 10 million a second or two.
  std::uint64_t steps = 10'000'000;
  std::size_t output_bytes = std::size_t{64} << 20;
};

class ChatTemplate {
 public:
  // kCorrupt for text that is no template, kUnsupported for parts of Jinja that are not here. `origin` names the
  // template in errors.
  static Result<ChatTemplate> parse(std::string_view text, std::string origin);

  // The prompt. kInvalidArgument where the template cannot be applied to the conversation, also where it refuses by
  // raise_exception; kResourceExhausted past a limit. `now` is what strftime_now sees, else the clock.
  Result<std::string> render(const ChatContext& context, const ChatTemplateLimits& limits = {},
                             std::optional<std::time_t> now = std::nullopt) const;

  // Whether the template reads this variable of the context: one that does not read "tools" ignores tools.
  bool reads(std::string_view variable) const;
  // The text as it was parsed; what of it a model was trained to write beside the prompt stands there too.
  const std::string& source() const;
  const std::string& origin() const;

 private:
  struct Parsed;
  explicit ChatTemplate(std::shared_ptr<const Parsed> parsed) : parsed_(std::move(parsed)) {}

  std::shared_ptr<const Parsed> parsed_;  // never changes, so copies share it, between threads as well
};

// What a model brings: templates by name, and the special tokens that they write.
struct ChatTemplateSet {
  std::map<std::string, ChatTemplate, std::less<>> templates;      // "default"; some have "tool_use" or "rag"
  std::map<std::string, std::string, std::less<>> special_tokens;  // "bos_token" and so on

  // As transformers chooses: "tool_use" where tools are given and it is there, else "default".
  Result<const ChatTemplate*> choose(bool has_tools) const;
  // Sets the variables that the special tokens are, where the context has none of the name.
  Result<void> add_special_tokens(ChatContext& context) const;
};

// The templates of a model: a folder (chat_template.jinja with additional_chat_templates/, else "chat_template" of
// tokenizer_config.json, else of chat_template.json), one of those files by name, a file in such a folder, or a GGUF.
// kNotFound when there is none.
Result<ChatTemplateSet> open_chat_template(const std::filesystem::path& path);
// `metadata`: the keys of a GGUF ("tokenizer.chat_template", "tokenizer.chat_template.NAME").
Result<ChatTemplateSet> chat_template_from_gguf(const Config& metadata);

}  // namespace krait::formats
