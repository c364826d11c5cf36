// Cuts a template into tokens, with white space controlled as transformers sets Jinja up: trim_blocks (a line end after
// a statement or comment goes), lstrip_blocks (blanks before one that begins a line go), and the signs - and + within
// the delimiters. Line ends become \n, and one at the end of the template goes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace krait::formats::jinja {

struct Token {
  enum Kind {
    kText,
    kOutputStart,     // {{
    kOutputEnd,       // }}
    kStatementStart,  // {%
    kStatementEnd,    // %}
    kName,
    kString,  // `text` is what it means
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind;
  std::string text;
  int line;
};

// Throws Failure with the line in `line` where the template has no meaning.
std::vector<Token> read_tokens(std::string_view text, int& line);

}  // namespace krait::formats::jinja
