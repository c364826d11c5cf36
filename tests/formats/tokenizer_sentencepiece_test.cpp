// SentencePiece models written byte by byte here, encoded by krait and by the library itself on the whole text.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <bit>
#include <random>

#include "krait/formats/tokenizer.h"
#include "tests/formats/tokenizer_samples.h"

namespace krait::formats {
namespace {

using Ids = std::vector<TokenId>;

void put_varint(std::uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(static_cast<unsigned char>(value | 0x80)));
  out.push_back(static_cast<char>(value));
}
void put_number(std::uint64_t field, std::uint64_t value, std::string& out) {
  put_varint(field << 3, out);
  put_varint(value, out);
}
void put_bytes(std::uint64_t field, std::string_view value, std::string& out) {
  put_varint(field << 3 | 2, out);
  put_varint(value.size(), out);
  out.append(value);
}
void put_float(std::uint64_t field, float value, std::string& out) {
  put_varint(field << 3 | 5, out);
  const auto bits = std::bit_cast<std::uint32_t>(value);
  for (int i = 0; i < 4; ++i) out.push_back(static_cast<char>(static_cast<unsigned char>(bits >> (8 * i))));
}

enum PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kByte = 6 };
enum ModelType { kUnigram = 1, kBpe = 2 };

std::string piece(std::string_view text, float score, PieceType type) {
  std::string message;
  put_bytes(1, text, message);
  put_float(2, score, message);
  put_number(3, type, message);
  return message;
}

struct Options {
  ModelType type = kBpe;
  bool dummy_prefix = true;
  bool remove_extra = false;
  bool crossing_piece = false;  // "e▁t", which words cannot be cut for
};

std::string model(const Options& options) {
  std::string bytes;
  put_bytes(1, piece("<unk>", 0, kUnknown), bytes);
  put_bytes(1, piece("<s>", 0, kControl), bytes);
  put_bytes(1, piece("</s>", 0, kControl), bytes);
  for (int byte = 0; byte < 256; ++byte) put_bytes(1, piece(fmt::format("<0x{:02X}>", byte), 0, kByte), bytes);
  float score = -1;
  for (const char* token : {"▁t", "▁th", "▁the", "in", "ing", "▁▁", "▁▁▁▁", "aa", "▁a", "on", "12", "123"}) {
    put_bytes(1, piece(token, score, kNormal), bytes);
    score -= 0.5F;
  }
  if (options.crossing_piece) put_bytes(1, piece("e▁t", -1.25F, kNormal), bytes);
  for (const char* token : {"▁", "t", "h", "e", "i", "n", "g", "a", "é", "漢", "s", "o", "1", "2", "3"}) {
    put_bytes(1, piece(token, score, kNormal), bytes);
    score -= 0.5F;
  }
  std::string trainer;
  put_number(3, options.type, trainer);
  put_number(35, 1, trainer);  // byte_fallback
  put_bytes(2, trainer, bytes);
  std::string normalizer;
  put_bytes(1, "identity", normalizer);
  put_number(3, options.dummy_prefix ? 1 : 0, normalizer);
  put_number(4, options.remove_extra ? 1 : 0, normalizer);
  put_number(5, 1, normalizer);
  put_bytes(3, normalizer, bytes);
  return bytes;
}

std::vector<Options> all_options() {
  std::vector<Options> all;
  for (const ModelType type : {kUnigram, kBpe}) {
    for (int bits = 0; bits < 8; ++bits) all.push_back({type, (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0});
  }
  return all;
}

std::unique_ptr<Tokenizer> parse(const std::string& bytes) {
  auto tokenizer = parse_sentencepiece_model(bytes, "sample.model");
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return std::move(*tokenizer);
}

// Mixed text without what krait treats apart: control tokens are found in text.
std::string plain_text(std::uint64_t seed, std::size_t size) {
  std::string text = tests::mixed_text(seed, size, seed % 3 == 0);
  for (std::size_t at = 0; (at = text.find("s>", at)) != std::string::npos;) text.erase(at, 2);
  return text;
}

TEST(SentencePiece, AgreesWithTheLibraryOnWholeTexts) {
  for (const Options& options : all_options()) {
    const std::string bytes = model(options);
    const auto tokenizer = parse(bytes);
    sentencepiece::SentencePieceProcessor library;
    ASSERT_TRUE(library.LoadFromSerializedProto(bytes).ok());
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
      const std::string text = plain_text(seed, 5 + 7 * seed);
      EXPECT_EQ(tokenizer->encode(text), library.EncodeAsIds(text))
          << "type " << options.type << " dummy " << options.dummy_prefix << " extra " << options.remove_extra
          << " seed " << seed << ": " << text;
    }
  }
}

TEST(SentencePiece, CutsAnywhereGiveTheSameIds) {
  for (const Options& options : all_options()) {
    const auto tokenizer = parse(model(options));
    const std::string text = tests::mixed_text(5, 40'000, true);
    std::mt19937_64 random(9);
    Ids ids;
    const auto encoder = tokenizer->encoder();
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = 1 + random() % 3000;
      encoder->feed(std::string_view(text).substr(at, size), ids);
      at += size;
    }
    encoder->finish(ids);
    EXPECT_EQ(ids, tokenizer->encode(text));
  }
}

TEST(SentencePiece, RoundTripsTextAndKnowsItsBoundaries) {
  const auto tokenizer = parse(model({}));
  EXPECT_EQ(tokenizer->kind(), "sentencepiece");
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  for (const char* text : {"the thing", "  two  spaces ", "漢字 é", "a", " "}) {
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text), true), text);
  }
  const Ids ids = tokenizer->encode("<s>the</s>");
  ASSERT_EQ(ids.size(), 3u);
  EXPECT_EQ(ids.front(), 1);
  EXPECT_EQ(ids.back(), 2);
}

TEST(SentencePiece, RefusesBrokenModels) {
  const std::string whole = model({});
  EXPECT_FALSE(parse_sentencepiece_model("", "x").has_value());
  for (std::size_t size = 0; size < whole.size(); size += 7) {
    // A model cut off is refused, or is a whole smaller one; it never brings the process down.
    const auto tokenizer = parse_sentencepiece_model(std::string_view(whole).substr(0, size), "x");
    if (tokenizer) {
      EXPECT_GT((*tokenizer)->size(), 0);
    }
  }
  std::string bytes = whole;
  std::string normalizer;
  put_bytes(2, std::string("\x00\x04\x00\x00", 4) + std::string(1024, '\x11') + '\0', normalizer);
  put_bytes(3, normalizer, bytes);
  const auto wild = parse_sentencepiece_model(bytes, "x");
  ASSERT_FALSE(wild.has_value());
  EXPECT_NE(wild.error().message.find("character map"), std::string::npos) << wild.error().message;
  // A value where the walk begins, and one behind a unit that ends a string but is no value.
  for (const auto& [unit0, unit1] : {std::pair{0x80000000U, 0U}, std::pair{0x00000500U, 0x00000900U}}) {
    std::string trie(1024, '\0');
    for (int byte = 0; byte < 4; ++byte) {
      trie[static_cast<std::size_t>(byte)] = static_cast<char>(unit0 >> (8 * byte));
      trie[static_cast<std::size_t>(4 + byte)] = static_cast<char>(unit1 >> (8 * byte));
    }
    std::string spec;
    put_bytes(2, std::string("\x00\x04\x00\x00", 4) + trie + '\0', spec);
    std::string hostile = whole;
    put_bytes(3, spec, hostile);
    EXPECT_FALSE(parse_sentencepiece_model(hostile, "x").has_value()) << unit0;
  }
  std::string nan = whole;
  put_bytes(1, piece("zz", std::numeric_limits<float>::quiet_NaN(), kNormal), nan);
  EXPECT_FALSE(parse_sentencepiece_model(nan, "x").has_value());
}

}  // namespace
}  // namespace krait::formats
