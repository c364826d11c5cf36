// One step of reading UTF-8 (Unicode 15, table 3-7), for text that may be cut off or broken. Not a converter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace krait::formats {

struct Utf8Step {
  enum Status : std::uint8_t { kValid, kInvalid, kIncomplete };
  char32_t code;        // U+FFFD unless valid
  std::uint8_t length;  // bytes of the character, or of the broken sequence that U+FFFD would replace
  Status status;        // kIncomplete: the text ends within a character that is right so far
};

// Reads the character at `at` < text.size().
inline Utf8Step read_utf8(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(at);
  if (lead < 0x80) return {lead, 1, Utf8Step::kValid};
  if (lead < 0xC2 || lead > 0xF4) return {0xFFFD, 1, Utf8Step::kInvalid};
  const std::uint8_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The first continuation byte is narrower where the plain range would allow overlong forms, surrogates, or codes
  // past U+10FFFF.
  unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  char32_t code = lead & (0x7FU >> length);
  for (std::uint8_t i = 1; i < length; ++i) {
    if (at + i >= text.size()) return {0xFFFD, i, Utf8Step::kIncomplete};
    const unsigned next = byte(at + i);
    if (next < low || next > high) return {0xFFFD, i, Utf8Step::kInvalid};
    code = (code << 6) | (next & 0x3FU);
    low = 0x80;
    high = 0xBF;
  }
  return {code, length, Utf8Step::kValid};
}

// End of the longest prefix of text[from:] that is valid UTF-8.
std::size_t valid_utf8_end(std::string_view text, std::size_t from);

// Bytes at the end of `text` that begin a character without completing it: 0 to 3.
std::size_t incomplete_tail(std::string_view text);

// The character that ends `text`; U+FFFD when it is broken, 0 when there is none.
char32_t last_character(std::string_view text);

void append_utf8(char32_t code, std::string& out);

// Unicode White_Space, which is what "whitespace" means to tokenizer.json.
bool is_white_space(char32_t code);
bool is_letter_or_digit(char32_t code);
// A letter, digit, mark or connector: what "single_word" of an added token looks at.
bool is_word_character(char32_t code);

}  // namespace krait::formats
