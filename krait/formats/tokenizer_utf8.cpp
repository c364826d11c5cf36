// UTF-8 and the two character classes that tokenizer files speak of; ICU knows the classes.
#include "krait/formats/tokenizer_utf8.h"

#include <unicode/uchar.h>

#include <cstring>

namespace krait::formats {

std::size_t valid_utf8_end(std::string_view text, std::size_t from) {
  std::size_t at = from;
  while (at < text.size()) {
    // Eight ASCII bytes at a time: most text is made of them.
    while (at + 8 <= text.size()) {
      std::uint64_t word;
      std::memcpy(&word, text.data() + at, 8);
      if ((word & 0x8080808080808080U) != 0) break;
      at += 8;
    }
    if (at == text.size()) break;
    const Utf8Step step = read_utf8(text, at);
    if (step.status != Utf8Step::kValid) break;
    at += step.length;
  }
  return at;
}

std::size_t incomplete_tail(std::string_view text) {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    return read_utf8(text, text.size() - back).status == Utf8Step::kIncomplete ? back : 0;
  }
  return 0;
}

char32_t last_character(std::string_view text) {
  for (std::size_t back = 1; back <= 4 && back <= text.size(); ++back) {
    const Utf8Step step = read_utf8(text, text.size() - back);
    if (step.status == Utf8Step::kValid && step.length == back) return step.code;
  }
  return text.empty() ? 0 : 0xFFFD;
}

void append_utf8(char32_t code, std::string& out) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(static_cast<unsigned char>(byte))); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

bool is_white_space(char32_t code) { return u_hasBinaryProperty(static_cast<UChar32>(code), UCHAR_WHITE_SPACE) != 0; }

bool is_letter_or_digit(char32_t code) { return u_isalnum(static_cast<UChar32>(code)) != 0; }

bool is_word_character(char32_t code) {
  const auto point = static_cast<UChar32>(code);
  const auto mask = U_GET_GC_MASK(point);
  return u_hasBinaryProperty(point, UCHAR_ALPHABETIC) != 0 || u_hasBinaryProperty(point, UCHAR_JOIN_CONTROL) != 0 ||
         (mask & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0;
}

}  // namespace krait::formats
