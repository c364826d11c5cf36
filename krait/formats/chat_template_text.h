// Text as Python's str has it: characters are code points of Unicode, white space and case are Unicode's. All text
// here is valid UTF-8.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "krait/formats/chat_template_value.h"

namespace krait::formats::jinja {

std::vector<std::string_view> characters(std::string_view text);
std::size_t count_characters(std::string_view text);

bool is_space(char32_t code);
bool is_all_space(std::string_view text);

enum class Side { kLeft, kRight, kBoth };
// Without `set`, white space; else any of its characters.
std::string_view strip(std::string_view text, Side side, std::optional<std::string_view> set = std::nullopt);

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string capitalize(std::string_view text);    // str.capitalize
std::string title_words(std::string_view text);   // str.title: a word is a run of letters
std::string title_filter(std::string_view text);  // Jinja's filter: words are parted by white space and -({[<

// std::string::find, paid for. Where `part` starts, or npos.
std::size_t find_text(std::string_view text, std::string_view part, std::size_t from, Budget& budget);
// The first `count` places (all, where negative).
std::string replace_text(std::string_view text, std::string_view old, std::string_view fresh, std::int64_t count,
                         Budget& budget);
// str.split and str.rsplit; without `separator`, at runs of white space.
Values split_text(std::string_view text, std::optional<std::string_view> separator, std::int64_t most, bool from_right,
                  Budget& budget);
std::vector<std::string_view> split_lines(std::string_view text);

enum class Character { kDigit, kLetter, kLetterOrDigit, kSpace };
// Whether there are characters and all are of the kind: str.isdigit, isalpha, isalnum, isspace.
bool is_all(std::string_view text, Character kind);

// The shortest digits that give the number back, as Python's repr(float).
std::string spell_float(double number);
std::string quote(std::string_view text);  // repr(str)

}  // namespace krait::formats::jinja
