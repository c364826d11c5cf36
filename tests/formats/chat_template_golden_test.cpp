// krait's renderings of tests/formats/chat_templates against those of Python's Jinja, set up as transformers sets it
// up (make_expected.py there), byte for byte; where Python refused, krait must refuse.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "krait/formats/chat_template.h"
#include "tests/formats/chat_template_cases.h"

namespace krait::formats {
namespace {

TEST(ChatTemplateGolden, RendersAsPythonsJinja) {
  const std::filesystem::path folder = tests::chat_template_folder();
  const auto expected = tests::Json::parse(std::ifstream(folder / "expected.json"));
  ASSERT_GE(expected.size(), 8u);
  for (const auto& [name, renderings] : expected.items()) {
    const auto set = open_chat_template(folder / (name + ".jinja"));
    ASSERT_TRUE(set.has_value()) << set.error().message;
    const auto chosen = set->choose(false);
    ASSERT_TRUE(chosen.has_value());
    std::size_t compared = 0;
    for (const tests::Json& conversation : tests::conversations()) {
      const std::string& title = conversation["name"].get_ref<const std::string&>();
      const tests::Json& wanted = renderings.at(title);
      const auto text = (*chosen)->render(tests::context_of(conversation));
      ++compared;
      if (wanted.contains("error")) {
        ASSERT_FALSE(text.has_value()) << name << ", " << title << ": Python says " << wanted["error"];
        EXPECT_EQ(text.error().code, ErrorCode::kInvalidArgument) << text.error().message;
      } else {
        ASSERT_TRUE(text.has_value()) << name << ", " << title << ": " << text.error().message;
        EXPECT_EQ(*text, wanted["text"].get<std::string>()) << name << ", " << title;
      }
    }
    EXPECT_EQ(compared, renderings.size());
  }
}

}  // namespace
}  // namespace krait::formats
