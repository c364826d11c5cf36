// Case by ICU, since it changes lengths (one character may become three); the rest on code points.
#include "krait/formats/chat_template_text.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats::jinja {
namespace {

icu::UnicodeString wide(std::string_view text) {
  return icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<std::int32_t>(text.size())));
}

std::string narrow(const icu::UnicodeString& text) {
  std::string out;
  text.toUTF8String(out);
  return out;
}

std::string title_character(char32_t code) {
  // Python's title case of one character; ß becomes Ss.
  icu::UnicodeString one(static_cast<UChar32>(code));
  if (u_totitle(static_cast<UChar32>(code)) != static_cast<UChar32>(code)) {
    return narrow(icu::UnicodeString(u_totitle(static_cast<UChar32>(code))));
  }
  one.toUpper(icu::Locale::getRoot());
  const std::string upper = narrow(one);
  const std::size_t first = read_utf8(upper, 0).length;
  return upper.substr(0, first) + to_lower(std::string_view(upper).substr(first));
}

bool is_cased(char32_t code) { return u_hasBinaryProperty(static_cast<UChar32>(code), UCHAR_CASED) != 0; }

bool is_printable(char32_t code) {
  if (code == ' ') return true;
  switch (u_charType(static_cast<UChar32>(code))) {
    case U_CONTROL_CHAR:
    case U_FORMAT_CHAR:
    case U_SURROGATE:
    case U_PRIVATE_USE_CHAR:
    case U_UNASSIGNED:
    case U_LINE_SEPARATOR:
    case U_PARAGRAPH_SEPARATOR:
    case U_SPACE_SEPARATOR: return false;
    default: return true;
  }
}

// Where the character before `end` begins.
std::size_t previous(std::string_view text, std::size_t end) {
  --end;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return end;
}

}  // namespace

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> result;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = read_utf8(text, at).length;
    result.push_back(text.substr(at, length));
    at += length;
  }
  return result;
}

std::size_t count_characters(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

bool is_space(char32_t code) {
  return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || code == 0x85 || code == 0xA0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F ||
         code == 0x205F || code == 0x3000;
}

bool is_all_space(std::string_view text) { return strip(text, Side::kLeft).empty(); }

std::string_view strip(std::string_view text, Side side, std::optional<std::string_view> set) {
  const auto drops = [&](std::size_t at) {
    const Utf8Step step = read_utf8(text, at);
    return set ? set->find(text.substr(at, step.length)) != std::string_view::npos : is_space(step.code);
  };
  std::size_t from = 0;
  std::size_t to = text.size();
  if (side != Side::kRight) {
    while (from < to && drops(from)) from += read_utf8(text, from).length;
  }
  if (side != Side::kLeft) {
    while (to > from && drops(previous(text, to))) to = previous(text, to);
  }
  return text.substr(from, to - from);
}

std::string to_upper(std::string_view text) { return narrow(wide(text).toUpper(icu::Locale::getRoot())); }
std::string to_lower(std::string_view text) { return narrow(wide(text).toLower(icu::Locale::getRoot())); }

std::string capitalize(std::string_view text) {
  if (text.empty()) return {};
  const Utf8Step first = read_utf8(text, 0);
  return title_character(first.code) + to_lower(text.substr(first.length));
}

std::string title_words(std::string_view text) {
  std::string out;
  bool in_word = false;
  for (const std::string_view character : characters(text)) {
    const char32_t code = read_utf8(character, 0).code;
    out += in_word ? to_lower(character) : title_character(code);
    in_word = is_cased(code);
  }
  return out;
}

std::string title_filter(std::string_view text) {
  std::string out;
  std::size_t at = 0;
  while (at < text.size()) {
    const Utf8Step first = read_utf8(text, at);
    const auto parts_words = [](const Utf8Step& step) {
      return is_space(step.code) || std::u32string_view(U"-({[<").find(step.code) != std::u32string_view::npos;
    };
    std::size_t end = at + first.length;
    if (parts_words(first)) {
      out += text.substr(at, first.length);
      at = end;
      continue;
    }
    while (end < text.size() && !parts_words(read_utf8(text, end))) end += read_utf8(text, end).length;
    out += to_upper(text.substr(at, first.length)) + to_lower(text.substr(at + first.length, end - at - first.length));
    at = end;
  }
  return out;
}

std::size_t find_text(std::string_view text, std::string_view part, std::size_t from, Budget& budget) {
  const std::size_t found = text.find(part, from);
  // Bytes that agree by chance with the beginning of `part` are compared again and again.
  const std::size_t walked = (found == std::string_view::npos ? text.size() : found) - std::min(from, text.size());
  budget.spend_text(walked + (walked / 64) * std::min<std::size_t>(part.size(), 64) + part.size());
  return found;
}

std::string replace_text(std::string_view text, std::string_view old, std::string_view fresh, std::int64_t count,
                         Budget& budget) {
  std::string out;
  std::size_t at = 0;
  budget.spend_text(text.size());
  while (count != 0) {
    std::size_t found = find_text(text, old, at, budget);
    if (found == std::string_view::npos) break;
    budget.spend_text(fresh.size());
    if (old.empty()) {
      // Before every character, and at the end.
      out += fresh;
      --count;
      if (at == text.size()) return out;
      found = at + read_utf8(text, at).length;
      out += text.substr(at, found - at);
      at = found;
      continue;
    }
    out += text.substr(at, found - at);
    out += fresh;
    at = found + old.size();
    --count;
  }
  return out += text.substr(at);
}

Values split_text(std::string_view text, std::optional<std::string_view> separator, std::int64_t most, bool from_right,
                  Budget& budget) {
  if (separator && separator->empty()) refuse("split needs a separator that is not empty");
  budget.spend_text(text.size());
  Values parts;
  const auto add = [&](std::string_view part) {
    budget.spend_text(part.size());
    parts.emplace_back(part);
  };
  if (!separator) text = strip(text, Side::kBoth);
  if (!separator && text.empty()) return parts;
  while (most != 0) {
    std::size_t from = std::string_view::npos;
    std::size_t to = 0;
    if (separator) {
      from = from_right ? text.rfind(*separator) : find_text(text, *separator, 0, budget);
      to = from + separator->size();
    } else if (from_right) {
      to = text.size();
      while (to > 0 && !is_space(read_utf8(text, previous(text, to)).code)) to = previous(text, to);
      if (to > 0) from = strip(text.substr(0, to), Side::kRight).size();
    } else {
      std::size_t at = 0;
      while (at < text.size() && !is_space(read_utf8(text, at).code)) at += read_utf8(text, at).length;
      if (at < text.size()) from = at;
      to = text.size() - strip(text.substr(at), Side::kLeft).size();
    }
    if (from == std::string_view::npos) break;
    add(from_right ? text.substr(to) : text.substr(0, from));
    text = from_right ? text.substr(0, from) : text.substr(to);
    --most;
  }
  add(text);
  if (from_right) std::ranges::reverse(parts);
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  std::size_t start = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = read_utf8(text, at);
    const char32_t code = step.code;
    const bool ends = (code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) || code == 0x85 ||
                      code == 0x2028 || code == 0x2029;
    std::size_t next = at + step.length;
    if (code == '\r' && next < text.size() && text[next] == '\n') ++next;
    if (ends) {
      lines.push_back(text.substr(start, at - start));
      start = next;
    }
    at = next;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

bool is_all(std::string_view text, Character kind) {
  return !text.empty() && std::ranges::all_of(characters(text), [&](std::string_view character) {
    const char32_t code = read_utf8(character, 0).code;
    const bool letter = u_isalpha(static_cast<UChar32>(code)) != 0;
    const bool digit = u_isdigit(static_cast<UChar32>(code)) != 0;
    switch (kind) {
      case Character::kDigit: return digit;
      case Character::kLetter: return letter;
      case Character::kLetterOrDigit: return letter || digit;
      case Character::kSpace: return is_space(code);
    }
    return false;
  });
}

std::string spell_float(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  char buffer[400];
  const double size = std::abs(number);
  const bool plain = size == 0 || (size >= 1e-4 && size < 1e16);
  const auto format = plain ? std::chars_format::fixed : std::chars_format::scientific;
  const auto end = std::to_chars(std::begin(buffer), std::end(buffer), number, format).ptr;
  std::string out(std::begin(buffer), end);
  if (plain && out.find('.') == std::string::npos) out += ".0";
  return out;
}

std::string quote(std::string_view text) {
  const bool doubled = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char mark = doubled ? '"' : '\'';
  std::string out(1, mark);
  for (const std::string_view character : characters(text)) {
    const char32_t code = read_utf8(character, 0).code;
    if (code == '\\' || code == static_cast<unsigned char>(mark)) {
      out += '\\';
      out += character;
    } else if (code == '\n') {
      out += "\\n";
    } else if (code == '\r') {
      out += "\\r";
    } else if (code == '\t') {
      out += "\\t";
    } else if (is_printable(code)) {
      out += character;
    } else {
      const auto number = static_cast<std::uint32_t>(code);
      out += number < 0x100     ? fmt::format("\\x{:02x}", number)
             : number < 0x10000 ? fmt::format("\\u{:04x}", number)
                                : fmt::format("\\U{:08x}", number);
    }
  }
  return out += mark;
}

}  // namespace krait::formats::jinja
