// RWKV's World tokenizer, with a small vocabulary of its form: all single bytes, and a few longer tokens.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <fstream>

#include "krait/formats/tokenizer.h"
#include "krait/formats/tokenizer_world.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"

namespace krait::formats {
namespace {

// Ids 1 … 256 are the bytes, as in the published list.
std::string small_vocabulary() {
  std::string text;
  for (int byte = 0; byte < 256; ++byte) text += fmt::format("{} b'\\x{:02x}' 1\n", byte + 1, byte);
  text += "257 ' the' 4\n258 'the' 3\n259 'there' 5\n260 '\\n\\n' 2\n261 'é' 2\n262 \"it's\" 4\n263 b'\\xe6\\x97' 2\n";
  text += "300 '\\u65e5\\u672c' 6\n";
  return text;
}

std::unique_ptr<Tokenizer> small_tokenizer() {
  auto tokenizer = parse_world_vocabulary(small_vocabulary(), "rwkv_vocab_v1.txt");
  if (!tokenizer) throw std::runtime_error(tokenizer.error().message);
  return *std::move(tokenizer);
}

TEST(WorldTokenizer, TakesTheLongestTokenThatFits) {
  const auto tokenizer = small_tokenizer();
  EXPECT_EQ(tokenizer->size(), 301);
  using Ids = std::vector<TokenId>;
  EXPECT_EQ(tokenizer->encode("there the"), (Ids{259, 257}));
  EXPECT_EQ(tokenizer->encode("ther"), (Ids{258, 'r' + 1}));
  EXPECT_EQ(tokenizer->encode("it's é\n\n"), (Ids{262, ' ' + 1, 261, 260}));
  EXPECT_EQ(tokenizer->encode("日本"), (Ids{300}));
  EXPECT_EQ(tokenizer->encode("日"), (Ids{263, 0xA5 + 1}));
  EXPECT_EQ(tokenizer->token_to_id("there"), 259);
  EXPECT_EQ(tokenizer->token_to_id("thereupon"), std::nullopt);
  EXPECT_EQ(tokenizer->eos(), 0);
  EXPECT_TRUE(tokenizer->is_special(0));
  EXPECT_EQ(tokenizer->token_bytes(299), "");
  EXPECT_EQ(tokenizer->token_bytes(-1), "");
}

TEST(WorldTokenizer, AnyBytesComeBackWholeOrInPieces) {
  const auto tokenizer = small_tokenizer();
  std::string text = "there's the 日本 \xFF\xE6\x97 the\n\n";
  text += '\0';
  for (int byte = 0; byte < 256; ++byte) text += static_cast<char>(byte);
  const auto ids = tokenizer->encode(text);
  EXPECT_EQ(tokenizer->decode(ids, true), text);
  for (const std::size_t piece : {1U, 2U, 7U, 100U}) {
    std::vector<TokenId> streamed;
    const auto encoder = tokenizer->encoder();
    for (std::size_t at = 0; at < text.size(); at += piece) {
      encoder->feed(std::string_view(text).substr(at, piece), streamed);
    }
    encoder->finish(streamed);
    EXPECT_EQ(streamed, ids) << piece;
  }
}

TEST(WorldTokenizer, IsFoundBesideAModelAndInGguf) {
  const tests::TemporaryFolder folder;
  std::ofstream(folder.path() / "rwkv_vocab_v20230424.txt", std::ios::binary) << small_vocabulary();
  const auto tokenizer = open_tokenizer(folder.path());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ((*tokenizer)->kind(), "world");

  Config gguf("model.gguf");
  gguf.set("tokenizer.ggml.model", std::string("rwkv"));
  std::vector<std::string> tokens = {"<s>"};
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(fmt::format("\\x{:02x}", byte));
  tokens.push_back("it\\'s");
  gguf.set("tokenizer.ggml.tokens", tokens);
  const auto from_gguf = tokenizer_from_gguf(gguf);
  ASSERT_TRUE(from_gguf) << from_gguf.error().message;
  EXPECT_EQ((*from_gguf)->encode("it's"), (std::vector<TokenId>{257}));
  tokens.back() = "\\xg0";
  gguf.set("tokenizer.ggml.tokens", tokens);
  tests::expect_error(tokenizer_from_gguf(gguf), ErrorCode::kCorrupt, {"token 257", "model.gguf"});
}

TEST(WorldTokenizer, DamagedListsAreRefusedByLine) {
  const auto refuse = [](const std::string& line, std::string_view what) {
    tests::expect_error(parse_world_vocabulary(small_vocabulary() + line, "v.txt"), ErrorCode::kCorrupt,
                        {"line 265", what, "v.txt"});
  };
  refuse("400\n", "id literal length");
  refuse("400 'a'\n", "id literal length");
  refuse("x 'abc' 3\n", "no id");
  refuse("0 'abc' 3\n", "no id");
  refuse("99999999 'abc' 3\n", "no id");
  refuse("400 abc 3\n", "no Python literal");
  refuse("400 'abc\" 3\n", "no Python literal");
  refuse("400 'a\\q' 2\n", "no Python literal");
  refuse("400 b'\\u1234' 3\n", "no Python literal");
  refuse("400 '\\ud800' 3\n", "no Python literal");
  refuse("400 'abc\\' 4\n", "no Python literal");
  refuse("400 'abc' 4\n", "another length");
  refuse("400 '' 0\n", "another length");
  refuse("257 'abc' 3\n", "there before");
  tests::expect_error(parse_world_vocabulary("1 'abc' 3\n", "v.txt"), ErrorCode::kCorrupt, {"byte 0x00", "v.txt"});
  tests::expect_error(parse_world_vocabulary("", "v.txt"), ErrorCode::kCorrupt, {"byte 0x00"});
}

TEST(UnescapePython, ReadsTextsAndBytes) {
  EXPECT_EQ(unescape_python(R"(a\n\\\'\x41)", true), "a\n\\'A");
  EXPECT_EQ(unescape_python(R"(\xe9)", true), "\xE9");
  EXPECT_EQ(unescape_python(R"(\xe9)", false), "é");
  EXPECT_EQ(unescape_python(R"(\U0001f600)", false), "😀");
  EXPECT_EQ(unescape_python(R"(\x4)", true), std::nullopt);
  EXPECT_EQ(unescape_python(R"(\U00110000)", false), std::nullopt);
}

}  // namespace
}  // namespace krait::formats
