// The conversations that chat templates are tried on, from tests/formats/chat_templates/conversations.json.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "krait/formats/chat_template.h"

namespace krait::tests {

using Json = nlohmann::ordered_json;

inline std::filesystem::path chat_template_folder() {
  return std::filesystem::path(KRAIT_SOURCE_DIR) / "tests" / "formats" / "chat_templates";
}

inline Json conversations() { return Json::parse(std::ifstream(chat_template_folder() / "conversations.json")); }

// With the variables that transformers gives, tools and documents being null where there are none.
inline Json variables_of(const Json& conversation) {
  Json variables = {{"tools", nullptr},
                    {"documents", nullptr},
                    {"add_generation_prompt", false},
                    {"bos_token", "<s>"},
                    {"eos_token", "</s>"}};
  for (const auto& [name, value] : conversation.items()) {
    if (name != "name") variables[name] = value;
  }
  return variables;
}

inline formats::ChatContext context_of(const Json& conversation) {
  auto context = formats::ChatContext::parse(variables_of(conversation).dump());
  EXPECT_TRUE(context.has_value()) << context.error().message;
  return context ? *std::move(context) : formats::ChatContext();
}

}  // namespace krait::tests
