// Where the chat templates of a model are found, and which of several is taken.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "krait/formats/chat_template.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"

namespace krait::formats {
namespace {

namespace fs = std::filesystem;

void write(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

// What the set makes of an empty conversation.
std::string render(const ChatTemplateSet& set, bool has_tools = false) {
  const auto chosen = set.choose(has_tools);
  EXPECT_TRUE(chosen.has_value()) << chosen.error().message;
  ChatContext context;
  EXPECT_TRUE(set.add_special_tokens(context).has_value());
  return chosen ? (*chosen)->render(context).value_or("error") : "none";
}

TEST(ChatTemplateSource, TokenizerConfigWithItsTokens) {
  const tests::TemporaryFolder folder;
  write(folder.path() / "tokenizer_config.json",
        R"({"chat_template": "{{ bos_token }}x{{ eos_token }}{{ pad_token }}", "model_max_length": 1e30,
            "bos_token": {"content": "<s>", "special": true}, "eos_token": "</s>", "pad_token": null})");
  write(folder.path() / "special_tokens_map.json", R"({"bos_token": "<other>", "unk_token": "<unk>"})");
  for (const char* name : {"", "tokenizer_config.json", "special_tokens_map.json"}) {
    KRAIT_ASSERT_VALUE(const ChatTemplateSet set,
                       open_chat_template(*name == 0 ? folder.path() : folder.path() / name));
    EXPECT_EQ(render(set), "<s>x</s>");
    EXPECT_EQ(set.special_tokens.at("unk_token"), "<unk>");
  }
}

TEST(ChatTemplateSource, NamedTemplates) {
  const tests::TemporaryFolder folder;
  write(folder.path() / "tokenizer_config.json",
        R"({"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]})");
  KRAIT_ASSERT_VALUE(const ChatTemplateSet set, open_chat_template(folder.path()));
  EXPECT_EQ(render(set), "d");
  EXPECT_EQ(render(set, true), "t");
}

TEST(ChatTemplateSource, JinjaFileComesFirst) {
  const tests::TemporaryFolder folder;
  write(folder.path() / "tokenizer_config.json", R"({"chat_template": "config", "bos_token": "<s>"})");
  write(folder.path() / "chat_template.json", R"({"chat_template": "json"})");
  EXPECT_EQ(render(*open_chat_template(folder.path())), "config");
  EXPECT_EQ(render(*open_chat_template(folder.path() / "chat_template.json")), "json");
  write(folder.path() / "chat_template.jinja", "{{ bos_token }}jinja\n");
  write(folder.path() / "additional_chat_templates" / "tool_use.jinja", "tools");
  KRAIT_ASSERT_VALUE(const ChatTemplateSet set, open_chat_template(folder.path()));
  EXPECT_EQ(render(set), "<s>jinja");
  EXPECT_EQ(render(set, true), "tools");
}

TEST(ChatTemplateSource, GgufMetadata) {
  Config metadata("model.gguf");
  tests::expect_error(chat_template_from_gguf(metadata), ErrorCode::kNotFound,
                      {"tokenizer.chat_template", "model.gguf"});
  metadata.set("tokenizer.chat_template", std::string("{{ bos_token }}a{{ eos_token }}"));
  metadata.set("tokenizer.chat_template.tool_use", std::string("t"));
  metadata.set("tokenizer.ggml.tokens", std::vector<std::string>{"<s>", "</s>"});
  metadata.set("tokenizer.ggml.bos_token_id", std::int64_t{0});
  metadata.set("tokenizer.ggml.eos_token_id", std::int64_t{1});
  KRAIT_ASSERT_VALUE(const ChatTemplateSet set, chat_template_from_gguf(metadata));
  EXPECT_EQ(render(set), "<s>a</s>");
  EXPECT_EQ(render(set, true), "t");
  metadata.set("tokenizer.ggml.eos_token_id", std::int64_t{2});
  tests::expect_error(chat_template_from_gguf(metadata), ErrorCode::kCorrupt,
                      {"tokenizer.ggml.eos_token_id is 2, outside a vocabulary of 2"});
}

TEST(ChatTemplateSource, ErrorsNameTheFile) {
  const tests::TemporaryFolder folder;
  tests::expect_error(open_chat_template(folder.path() / "absent"), ErrorCode::kNotFound, {"no such file", "absent"});
  tests::expect_error(open_chat_template(folder.path()), ErrorCode::kNotFound, {"chat_template.jinja"});
  write(folder.path() / "tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})");
  tests::expect_error(open_chat_template(folder.path()), ErrorCode::kCorrupt, {"no template", "tokenizer_config.json"});
  write(folder.path() / "tokenizer_config.json", "[");
  tests::expect_error(open_chat_template(folder.path()), ErrorCode::kCorrupt,
                      {"not a JSON object", "tokenizer_config.json"});
  write(folder.path() / "tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "\n{{ ("}]})");
  tests::expect_error(open_chat_template(folder.path()), ErrorCode::kCorrupt,
                      {"line 2", "tokenizer_config.json, template rag"});
}

}  // namespace
}  // namespace krait::formats
