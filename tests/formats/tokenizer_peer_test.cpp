// krait's ids against npm's @huggingface/tokenizers, on mixed lines and on English, for the GPT-NeoX, Llama-3 and
// Qwen 2.5 tokenizers. Lines that are not UTF-8 cannot be JavaScript strings: krait must bring their bytes back
// exactly (where the tokenizer does not normalise), and their ids are compared after every broken sequence was
// replaced by U+FFFD for both sides.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "krait/formats/tokenizer.h"
#include "krait/formats/tokenizer_byte_alphabet.h"
#include "krait/formats/tokenizer_normalizer.h"
#include "krait/formats/tokenizer_utf8.h"
#include "tests/formats/tokenizer_samples.h"
#include "tests/support/node_peer.h"
#include "tests/support/shared_data.h"

namespace krait::formats {
namespace {

namespace fs = std::filesystem;

fs::path installed_peer() { return tests::installed_node_peer(fs::path("tests") / "formats" / "tokenizer_peer"); }

std::string replace_broken(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = read_utf8(text, at);
    append_utf8(step.code, out);
    at += step.length;
  }
  return out;
}

std::string to_nfc(std::string_view text) {
  NormalizerSteps steps;
  steps.push_back(*make_unicode_step(UnicodeForm::kNfc));
  return normalize(steps, text);
}

std::vector<std::string> lines() {
  std::vector<std::string> lines;
  for (std::uint64_t seed = 0; seed < 2400; ++seed) {
    lines.push_back(tests::mixed_text(seed, 10 + seed % 300, seed % 5 == 0));
  }
  // White space and digits of every length near the limits of the patterns and of the added tokens.
  for (std::size_t n = 0; n < 60; ++n) {
    for (const char* tail : {"", "x", "\n", ".", "1"}) {
      lines.push_back(fmt::format("{}{}", std::string(n, ' '), tail));
      lines.push_back(fmt::format("a{}{}", std::string(n, '\n'), tail));
      lines.push_back(fmt::format("\t{}{}", std::string(n, '9'), tail));
    }
  }
  if (const auto shared = tests::shared_data()) {
    std::ifstream file(*shared / "data" / "tales" / "train.txt");
    std::string line;
    while (lines.size() < 6000 && std::getline(file, line)) {
      if (!line.empty()) lines.push_back(line);
    }
  }
  return lines;
}

// What must come back. GPT-NeoX's vocabulary has no token for the bytes that never stand in UTF-8 (C0, C1, F5 to FF),
// so these are dropped, as its own library drops them; every other byte-level tokenizer here has all 256.
enum class RoundTrip { kBytes, kNfc, kNone };
std::string expected_text(const Tokenizer& tokenizer, const std::string& line, RoundTrip round_trip) {
  const std::string text = round_trip == RoundTrip::kNfc ? to_nfc(line) : line;
  std::string kept;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = read_utf8(text, at);
    const std::string byte = text.substr(at, 1);
    if (step.status == Utf8Step::kValid) {
      kept += text.substr(at, step.length);
      at += step.length;
    } else {
      if (tokenizer.token_to_id(spell_bytes(byte))) kept += byte;
      ++at;
    }
  }
  return kept;
}

void compare(const std::string& name, const fs::path& tokenizer_json, RoundTrip round_trip) {
  const fs::path peer = installed_peer();
  auto opened = open_tokenizer(tokenizer_json);
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  const Tokenizer& tokenizer = **opened;

  const std::vector<std::string> texts = lines();
  ASSERT_GE(texts.size(), 2000u);
  const fs::path lines_path = peer / (name + ".lines.jsonl");
  const fs::path ids_path = peer / (name + ".ids.jsonl");
  {
    std::ofstream file(lines_path);
    for (const std::string& text : texts) file << nlohmann::json(replace_broken(text)).dump() << '\n';
  }
  const std::string command =
      fmt::format("cd '{}' && node encode_lines.mjs '{}' '{}' '{}'", peer.string(),
                  fs::absolute(tokenizer_json).string(), lines_path.string(), ids_path.string());
  ASSERT_EQ(std::system(command.c_str()), 0) << command;

  std::ifstream file(ids_path);
  std::string answer;
  std::size_t compared = 0;
  std::size_t different = 0;
  for (const std::string& text : texts) {
    ASSERT_TRUE(std::getline(file, answer));
    const auto expected = nlohmann::json::parse(answer)["ids"].get<std::vector<TokenId>>();
    const std::string valid = replace_broken(text);
    const auto ids = tokenizer.encode(valid);
    ++compared;
    if (ids != expected && ++different <= 10) {
      ADD_FAILURE() << nlohmann::json(valid).dump(-1, ' ', true) << "\n  krait " << nlohmann::json(ids).dump()
                    << "\n  peer  " << answer;
    }
    if (round_trip != RoundTrip::kNone) {
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text), false), expected_text(tokenizer, text, round_trip));
    }
  }
  EXPECT_EQ(different, 0u) << "of " << compared << " lines";
}

TEST(TokenizerPeer, NeoXAgreesOnEveryLine) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  compare("neox", path / "golden" / "tokenizers" / "gpt-neox" / "tokenizer.json", RoundTrip::kNfc);
}

TEST(TokenizerPeer, Llama3AgreesOnEveryLine) {
  compare("llama3", installed_peer() / "node_modules" / "@lenml" / "tokenizer-llama3" / "models" / "tokenizer.json",
          RoundTrip::kBytes);
}

TEST(TokenizerPeer, Qwen25AgreesOnEveryLine) {
  compare("qwen2_5", installed_peer() / "node_modules" / "@lenml" / "tokenizer-qwen2_5" / "models" / "tokenizer.json",
          RoundTrip::kNfc);
}

TEST(TokenizerPeer, SamplesAgreeOnEveryLine) {
  const std::string byte_level = R"({"type": "ByteLevel", "add_prefix_space": true, "use_regex": true})";
  const std::vector<std::pair<std::string, std::string>> samples = {{"prefix", tests::byte_level_json("", byte_level)},
                                                                    {"fallback", tests::byte_fallback_json()},
                                                                    {"unigram", tests::unigram_json()}};
  for (const auto& [name, json] : samples) {
    const fs::path file = installed_peer() / (name + ".tokenizer.json");
    std::ofstream(file) << json;
    compare(name, file, RoundTrip::kNone);
  }
}

}  // namespace
}  // namespace krait::formats
