// The order of rules follows Jinja's documentation: within delimiters the closing one is looked for first, unless a
// bracket is open; raw blocks are text.
#include "krait/formats/chat_template_lexer.h"

#include <algorithm>
#include <array>

#include "krait/formats/chat_template_text.h"
#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool starts_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}
bool continues_name(char c) { return starts_name(c) || is_digit(c); }

std::string one_kind_of_line_end(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r') {
      if (i + 1 == text.size() || text[i + 1] != '\n') out += '\n';
    } else {
      out += text[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  Lexer(std::string_view text, int& line) : source_(one_kind_of_line_end(text)), line_(line) {}

  std::vector<Token> read() {
    line_ = 1;
    while (at_ < source_.size()) read_text();
    tokens_.push_back({Token::kEnd, "", line_});
    return std::move(tokens_);
  }

 private:
  [[noreturn]] static void complain(const std::string& what) { throw Failure{ErrorCode::kCorrupt, what}; }

  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool next_is(std::string_view word) const { return rest().starts_with(word); }

  void advance(std::size_t count) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(at_ + count), '\n'));
    at_ += count;
  }

  void skip_space() { advance(rest().size() - strip(rest(), Side::kLeft).size()); }

  // Text up to the next delimiter, and what that begins.
  void read_text() {
    std::size_t end = at_;
    for (;; ++end) {
      end = source_.find('{', end);
      if (end == std::string::npos || end + 1 == source_.size()) end = source_.size();
      if (end == source_.size() || source_[end + 1] == '{' || source_[end + 1] == '%' || source_[end + 1] == '#') break;
    }
    const int line = line_;
    const std::string_view text = std::string_view(source_).substr(at_, end - at_);
    if (end == source_.size()) {
      add_text(text, line);
      advance(text.size());
      return;
    }
    const char kind = source_[end + 1];
    add_text(strip_before(text, end, kind != '{'), line);
    advance(text.size() + 2);
    if (next_is("-") || next_is("+")) advance(1);
    if (kind == '#') {
      read_comment();
    } else if (kind == '%' && starts_raw()) {
      read_raw();
    } else {
      tokens_.push_back({kind == '{' ? Token::kOutputStart : Token::kStatementStart, "", line_});
      read_inside(kind == '{');
    }
  }

  void add_text(std::string_view text, int line) {
    if (!text.empty()) tokens_.push_back({Token::kText, std::string(text), line});
  }

  // What is left of `text` before the delimiter at `tag`.
  std::string_view strip_before(std::string_view text, std::size_t tag, bool strips_line) const {
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
    if (sign == '-') return strip(text, Side::kRight);
    if (sign == '+' || !strips_line) return text;
    const std::size_t line_end = text.rfind('\n');
    const std::size_t from = line_end == std::string_view::npos ? 0 : line_end + 1;
    // The text may begin in the middle of a line, after another tag.
    const std::size_t begin = tag - text.size();
    if (from == 0 && begin > 0 && source_[begin - 1] != '\n') return text;
    return is_all_space(text.substr(from)) ? text.substr(0, from) : text;
  }

  // The rest of a closing delimiter that starts at the place reached, with its sign.
  void close(std::string_view delimiter, bool trims_line) {
    const bool strips = next_is("-");
    const bool keeps = next_is("+");
    advance(delimiter.size() + (strips || keeps ? 1 : 0));
    if (strips) {
      skip_space();
    } else if (!keeps && trims_line && next_is("\n")) {
      advance(1);
    }
  }

  bool closes(std::string_view delimiter) const {
    if (next_is(delimiter)) return true;
    if (!next_is("-") && (delimiter == "}}" || !next_is("+"))) return false;
    return rest().substr(1).starts_with(delimiter);
  }

  void read_comment() {
    const std::size_t end = source_.find("#}", at_);
    if (end == std::string::npos) complain("a comment is not closed");
    const bool signed_end = end > at_ && (source_[end - 1] == '-' || source_[end - 1] == '+');
    advance(end - at_ - (signed_end ? 1 : 0));
    close("#}", true);
  }

  // Where the word ends that stands after white space at `from`; npos when another stands there.
  std::size_t after_word(std::size_t from, std::string_view word) const {
    const std::string_view text = std::string_view(source_).substr(from);
    const std::string_view stripped = strip(text, Side::kLeft);
    if (!stripped.starts_with(word)) return std::string::npos;
    const std::string_view behind = strip(stripped.substr(word.size()), Side::kLeft);
    return source_.size() - behind.size();
  }

  bool starts_raw() const {
    const std::size_t end = after_word(at_, "raw");
    if (end == std::string::npos) return false;
    const std::string_view behind = std::string_view(source_).substr(end);
    return behind.starts_with("%}") || behind.starts_with("-%}");
  }

  void read_raw() {
    advance(after_word(at_, "raw") - at_);
    close("%}", false);
    for (std::size_t tag = source_.find("{%", at_); tag != std::string::npos; tag = source_.find("{%", tag + 1)) {
      const bool has_sign = tag + 2 < source_.size() && (source_[tag + 2] == '-' || source_[tag + 2] == '+');
      const std::size_t end = after_word(tag + (has_sign ? 3 : 2), "endraw");
      if (end == std::string::npos) continue;
      const std::string_view behind = std::string_view(source_).substr(end);
      if (!behind.starts_with("%}") && !behind.starts_with("-%}") && !behind.starts_with("+%}")) continue;
      add_text(strip_before(std::string_view(source_).substr(at_, tag - at_), tag, true), line_);
      advance(end - at_);
      close("%}", true);
      return;
    }
    complain("a raw block is not closed");
  }

  void read_inside(bool is_output) {
    const std::string_view end = is_output ? "}}" : "%}";
    std::string open;  // brackets
    for (;;) {
      skip_space();
      if (at_ == source_.size()) complain(fmt::format("\"{}\" is missing", end));
      if (open.empty() && closes(end)) {
        tokens_.push_back({is_output ? Token::kOutputEnd : Token::kStatementEnd, "", line_});
        close(end, !is_output);
        return;
      }
      const char c = source_[at_];
      if (starts_name(c)) {
        std::size_t length = 1;
        while (at_ + length < source_.size() && continues_name(source_[at_ + length])) ++length;
        add(Token::kName, length);
      } else if (is_digit(c)) {
        read_number();
      } else if (c == '\'' || c == '"') {
        read_string(c);
      } else {
        read_operator(open);
      }
    }
  }

  void add(Token::Kind kind, std::size_t length) {
    tokens_.push_back({kind, source_.substr(at_, length), line_});
    advance(length);
  }

  void read_number() {
    const auto digits = [&](std::size_t from) {
      while (from < source_.size() && (is_digit(source_[from]) || source_[from] == '_')) ++from;
      return from;
    };
    const auto digit_at = [&](std::size_t place) { return place < source_.size() && is_digit(source_[place]); };
    std::size_t end = digits(at_);
    Token::Kind kind = Token::kInteger;
    // In `pair.0.1` the digits after a dot are a place in a list.
    const bool after_dot = tokens_.back().kind == Token::kOperator && tokens_.back().text == ".";
    if (!after_dot) {
      if (end < source_.size() && source_[end] == '.' && digit_at(end + 1)) {
        kind = Token::kFloat;
        end = digits(end + 1);
      }
      if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
        std::size_t exponent = end + 1;
        if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
        if (digit_at(exponent)) {
          kind = Token::kFloat;
          end = digits(exponent);
        }
      }
    }
    add(kind, end - at_);
    std::erase(tokens_.back().text, '_');
  }

  void read_operator(std::string& open) {
    static constexpr std::array<std::string_view, 24> kOperators = {"==", "!=", ">=", "<=", "**", "//", "+", "-",
                                                                    "*",  "/",  "%",  "~",  "<",  ">",  "=", "|",
                                                                    ".",  ":",  ",",  "(",  "[",  "{",  ")", "]"};
    std::string_view found;
    for (const std::string_view candidate : kOperators) {
      if (found.empty() && next_is(candidate)) found = candidate;
    }
    if (next_is("}")) found = "}";
    if (found.empty()) {
      complain(fmt::format("unexpected character {}", quote(rest().substr(0, read_utf8(source_, at_).length))));
    }
    const char c = found.front();
    if (c == '(' || c == '[' || c == '{') open += c;
    if (c == ')' || c == ']' || c == '}') {
      const char opening = c == ')' ? '(' : c == ']' ? '[' : '{';
      if (open.empty() || open.back() != opening) complain(fmt::format("unexpected \"{}\"", c));
      open.pop_back();
    }
    add(Token::kOperator, found.size());
  }

  // `count` hexadecimal digits after the backslash and its letter, at most `longest` octal ones after a backslash.
  char32_t read_code(std::string_view text, std::size_t& at, std::size_t count) {
    char32_t code = 0;
    for (std::size_t i = 0; i < count; ++i, ++at) {
      const char c = at < text.size() ? text[at] : ' ';
      const int digit = is_digit(c)              ? c - '0'
                        : (c >= 'a' && c <= 'f') ? c - 'a' + 10
                        : (c >= 'A' && c <= 'F') ? c - 'A' + 10
                                                 : -1;
      if (digit < 0) complain("a string has an escape without its digits");
      code = code * 16 + static_cast<char32_t>(digit);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      complain(
          fmt::format("a string has the escape of U+{:X}, which is no character", static_cast<std::uint32_t>(code)));
    }
    return code;
  }

  std::string unescape(std::string_view text) {
    static constexpr std::string_view kLetters = "abfnrtv\\'\"";
    static constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
      if (text[at] != '\\' || at + 1 == text.size()) {
        out += text[at++];
        continue;
      }
      const char c = text[at + 1];
      at += 2;
      if (const std::size_t letter = kLetters.find(c); letter != std::string_view::npos) {
        out += kMeanings[letter];
      } else if (c == 'x' || c == 'u' || c == 'U') {
        append_utf8(read_code(text, at, c == 'x' ? 2 : c == 'u' ? 4 : 8), out);
      } else if (c >= '0' && c <= '7') {
        char32_t code = 0;
        std::size_t digits = 0;
        for (--at; digits < 3 && at < text.size() && text[at] >= '0' && text[at] <= '7'; ++digits, ++at) {
          code = code * 8 + static_cast<char32_t>(text[at] - '0');
        }
        append_utf8(code, out);
      } else if (c == 'N') {
        complain("a string has an escape \\N, which is not supported");
      } else if (c != '\n') {  // an escaped line end is none
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  void read_string(char mark) {
    std::size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != mark) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) complain("a string is not closed");
    tokens_.push_back({Token::kString, unescape(source_.substr(at_ + 1, end - at_ - 1)), line_});
    advance(end - at_ + 1);
  }

  const std::string source_;
  int& line_;
  std::size_t at_ = 0;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> read_tokens(std::string_view text, int& line) { return Lexer(text, line).read(); }

}  // namespace krait::formats::jinja
