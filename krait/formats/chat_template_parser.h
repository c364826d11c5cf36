// Tokens to a tree. Expressions and statements have a parser each; both are bounded in how deep they nest, since trees
// are walked and freed by recursion.
#pragma once

#include <string_view>
#include <vector>

#include "krait/formats/chat_template_lexer.h"
#include "krait/formats/chat_template_tree.h"

namespace krait::formats::jinja {

// The tokens of one template and the place reached in them.
class TokenStream {
 public:
  // `line` follows the place, for errors.
  TokenStream(std::vector<Token> tokens, int& line) : tokens_(std::move(tokens)), line_(line) {
    line_ = tokens_.front().line;
  }
  const Token& peek(std::size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  Token take();
  bool next_is_operator(std::string_view text) const { return is(Token::kOperator, text); }
  bool next_is_name(std::string_view text) const { return is(Token::kName, text); }
  bool take_operator(std::string_view text) { return take_if(Token::kOperator, text); }
  bool take_name(std::string_view text) { return take_if(Token::kName, text); }
  void expect_operator(std::string_view text);
  void expect_name(std::string_view text);
  std::string expect_any_name();
  void expect(Token::Kind kind, std::string_view what);
  int line() const { return peek().line; }
  [[noreturn]] void unexpected(std::string_view wanted) const;

 private:
  bool is(Token::Kind kind, std::string_view text) const { return peek().kind == kind && peek().text == text; }
  bool take_if(Token::Kind kind, std::string_view text);

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int& line_;
};

// Counts how deep the parser is; throws past the limit.
class Nesting {
 public:
  explicit Nesting(int& depth);
  ~Nesting() { --depth_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  int& depth_;
};

class ExpressionParser {
 public:
  ExpressionParser(TokenStream& tokens, int& depth) : tokens_(tokens), depth_(depth) {}
  // With commas it is a tuple: `1, 2`.
  ExpressionPtr parse_tuple_or_expression();
  ExpressionPtr parse();
  ExpressionPtr parse_without_condition() { return parse_or(); }
  ExpressionPtr parse_filters(ExpressionPtr operand, bool starts_with_name);

 private:
  ExpressionPtr make(Expression::Kind kind, std::string name, std::vector<ExpressionPtr> operands);
  void measure(Expression& node) const;
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filters);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_postfix(ExpressionPtr operand);
  ExpressionPtr parse_subscript(ExpressionPtr operand);
  ExpressionPtr parse_test(ExpressionPtr operand);
  ExpressionPtr parse_dict();
  void parse_arguments(Expression& call);
  std::vector<ExpressionPtr> parse_items(std::string_view end, bool& has_comma);

  TokenStream& tokens_;
  int& depth_;
};

// Throws Failure, with the line in `line`.
Block parse_template(std::string_view text, int& line);

}  // namespace krait::formats::jinja
