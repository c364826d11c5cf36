// Expressions by descent, one function for each level of binding, loosest first: if-else, or, and, not, comparisons,
// + and -, ~, * / // %, **, sign, then filters and tests, which bind tighter than all of these: `a + b is none` is
// a + (b is none).
#include <algorithm>
#include <array>
#include <charconv>

#include "krait/formats/chat_template_parser.h"
#include "krait/formats/chat_template_text.h"

namespace krait::formats::jinja {
namespace {

constexpr int kDeepestTemplate = 100;

template <class... Nodes>
std::vector<ExpressionPtr> gather(Nodes... nodes) {
  std::vector<ExpressionPtr> list;
  (list.push_back(std::move(nodes)), ...);
  return list;
}

}  // namespace

Token TokenStream::take() {
  Token token = peek();
  if (at_ + 1 < tokens_.size()) ++at_;
  line_ = token.line;
  return token;
}

bool TokenStream::take_if(Token::Kind kind, std::string_view text) {
  if (!is(kind, text)) return false;
  take();
  return true;
}

void TokenStream::unexpected(std::string_view wanted) const {
  const Token& token = peek();
  line_ = token.line;
  std::string found;
  switch (token.kind) {
    case Token::kEnd: found = "the end of the template"; break;
    case Token::kText: found = "text"; break;
    case Token::kOutputEnd: found = "\"}}\""; break;
    case Token::kStatementEnd: found = "\"%}\""; break;
    case Token::kString: found = fmt::format("the string {}", quote(token.text)); break;
    default: found = fmt::format("\"{}\"", token.text);
  }
  throw Failure{ErrorCode::kCorrupt, fmt::format("{} where {} should stand", found, wanted)};
}

void TokenStream::expect_operator(std::string_view text) {
  if (!take_operator(text)) unexpected(fmt::format("\"{}\"", text));
}

void TokenStream::expect_name(std::string_view text) {
  if (!take_name(text)) unexpected(fmt::format("\"{}\"", text));
}

std::string TokenStream::expect_any_name() {
  if (peek().kind != Token::kName) unexpected("a name");
  return take().text;
}

void TokenStream::expect(Token::Kind kind, std::string_view what) {
  if (peek().kind != kind) unexpected(what);
  take();
}

Nesting::Nesting(int& depth) : depth_(depth) {
  if (depth_ == kDeepestTemplate) {
    throw Failure{ErrorCode::kCorrupt, fmt::format("nested deeper than {}", kDeepestTemplate)};
  }
  ++depth_;
}

// Chains such as a + b + c nest to the left without a bracket, so trees are measured too.
void ExpressionParser::measure(Expression& node) const {
  int depth = 0;
  for (const ExpressionPtr& operand : node.operands) depth = std::max(depth, operand ? operand->depth : 0);
  for (const auto& [name, operand] : node.named) depth = std::max(depth, operand->depth);
  node.depth = depth + 1;
  if (node.depth > 2 * kDeepestTemplate) {
    throw Failure{ErrorCode::kCorrupt, fmt::format("an expression of more than {} levels", 2 * kDeepestTemplate)};
  }
}

ExpressionPtr ExpressionParser::make(Expression::Kind kind, std::string name, std::vector<ExpressionPtr> operands) {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = tokens_.line();
  node->name = std::move(name);
  node->operands = std::move(operands);
  measure(*node);
  return node;
}

ExpressionPtr ExpressionParser::parse_tuple_or_expression() {
  ExpressionPtr first = parse();
  if (!tokens_.next_is_operator(",")) return first;
  std::vector<ExpressionPtr> items = gather(std::move(first));
  while (tokens_.take_operator(",")) {
    const Token::Kind next = tokens_.peek().kind;
    if (next == Token::kStatementEnd || next == Token::kOutputEnd) break;
    items.push_back(parse());
  }
  return make(Expression::kTuple, "", std::move(items));
}

ExpressionPtr ExpressionParser::parse() {
  const Nesting nesting(depth_);
  ExpressionPtr left = parse_or();
  while (tokens_.take_name("if")) {
    ExpressionPtr condition = parse_or();
    ExpressionPtr otherwise = tokens_.take_name("else") ? parse() : nullptr;
    left = make(Expression::kConditional, "", gather(std::move(left), std::move(condition), std::move(otherwise)));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_or() {
  ExpressionPtr left = parse_and();
  while (tokens_.take_name("or")) {
    ExpressionPtr right = parse_and();
    left = make(Expression::kBinary, "or", gather(std::move(left), std::move(right)));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_and() {
  ExpressionPtr left = parse_not();
  while (tokens_.take_name("and")) {
    ExpressionPtr right = parse_not();
    left = make(Expression::kBinary, "and", gather(std::move(left), std::move(right)));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_not() {
  if (!tokens_.take_name("not")) return parse_compare();
  const Nesting nesting(depth_);
  return make(Expression::kUnary, "not", gather(parse_not()));
}

ExpressionPtr ExpressionParser::parse_compare() {
  static constexpr std::array<std::string_view, 6> kOperators = {"==", "!=", "<", "<=", ">", ">="};
  std::vector<ExpressionPtr> operands = gather(parse_sum());
  std::vector<std::string> names;
  for (;;) {
    const Token& next = tokens_.peek();
    if (next.kind == Token::kOperator && std::ranges::find(kOperators, next.text) != kOperators.end()) {
      names.push_back(tokens_.take().text);
    } else if (tokens_.take_name("in")) {
      names.emplace_back("in");
    } else if (tokens_.next_is_name("not") && tokens_.peek(1).kind == Token::kName && tokens_.peek(1).text == "in") {
      tokens_.take();
      tokens_.take();
      names.emplace_back("not in");
    } else {
      break;
    }
    operands.push_back(parse_sum());
  }
  if (names.empty()) return std::move(operands.front());
  ExpressionPtr node = make(Expression::kCompare, "", std::move(operands));
  node->names = std::move(names);
  return node;
}

ExpressionPtr ExpressionParser::parse_sum() {
  ExpressionPtr left = parse_concat();
  while (tokens_.next_is_operator("+") || tokens_.next_is_operator("-")) {
    std::string name = tokens_.take().text;
    ExpressionPtr right = parse_concat();
    left = make(Expression::kBinary, std::move(name), gather(std::move(left), std::move(right)));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_concat() {
  ExpressionPtr left = parse_product();
  while (tokens_.take_operator("~")) {
    ExpressionPtr right = parse_product();
    left = make(Expression::kBinary, "~", gather(std::move(left), std::move(right)));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_product() {
  ExpressionPtr left = parse_power();
  while (tokens_.next_is_operator("*") || tokens_.next_is_operator("/") || tokens_.next_is_operator("//") ||
         tokens_.next_is_operator("%")) {
    std::string name = tokens_.take().text;
    ExpressionPtr right = parse_power();
    left = make(Expression::kBinary, std::move(name), gather(std::move(left), std::move(right)));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_power() {
  ExpressionPtr left = parse_unary(true);
  while (tokens_.take_operator("**")) {
    ExpressionPtr right = parse_unary(true);
    left = make(Expression::kBinary, "**", gather(std::move(left), std::move(right)));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filters) {
  const Nesting nesting(depth_);
  ExpressionPtr node;
  if (tokens_.next_is_operator("-") || tokens_.next_is_operator("+")) {
    std::string name = tokens_.take().text;
    node = make(Expression::kUnary, std::move(name), gather(parse_unary(false)));
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filters ? parse_filters(std::move(node), false) : std::move(node);
}

ExpressionPtr ExpressionParser::parse_primary() {
  const Token& next = tokens_.peek();
  ExpressionPtr node = make(Expression::kConstant, "", {});
  if (next.kind == Token::kName) {
    const std::string name = tokens_.take().text;
    if (name == "true" || name == "True") {
      node->value = true;
    } else if (name == "false" || name == "False") {
      node->value = false;
    } else if (name == "none" || name == "None") {
      node->value = None{};
    } else {
      node->kind = Expression::kName;
      node->name = name;
    }
    return node;
  }
  if (next.kind == Token::kString) {
    std::string text;
    while (tokens_.peek().kind == Token::kString) text += tokens_.take().text;  // neighbours are one string
    node->value = std::move(text);
    return node;
  }
  if (next.kind == Token::kInteger || next.kind == Token::kFloat) {
    const Token token = tokens_.take();
    const char* end = token.text.data() + token.text.size();
    std::int64_t whole = 0;
    double number = 0;
    const auto read = token.kind == Token::kInteger ? std::from_chars(token.text.data(), end, whole)
                                                    : std::from_chars(token.text.data(), end, number);
    if (read.ec != std::errc{} || read.ptr != end) {
      throw Failure{ErrorCode::kCorrupt, fmt::format("the number {:.40} is out of range", token.text)};
    }
    node->value = token.kind == Token::kInteger ? Value(whole) : Value(number);
    return node;
  }
  bool has_comma = false;
  if (tokens_.take_operator("(")) {
    std::vector<ExpressionPtr> items = parse_items(")", has_comma);
    if (items.size() == 1 && !has_comma) return std::move(items.front());
    return make(Expression::kTuple, "", std::move(items));
  }
  if (tokens_.take_operator("[")) return make(Expression::kList, "", parse_items("]", has_comma));
  if (tokens_.take_operator("{")) return parse_dict();
  tokens_.unexpected("an expression");
}

std::vector<ExpressionPtr> ExpressionParser::parse_items(std::string_view end, bool& has_comma) {
  std::vector<ExpressionPtr> items;
  while (!tokens_.take_operator(end)) {
    if (!items.empty()) {
      tokens_.expect_operator(",");
      has_comma = true;
      if (tokens_.take_operator(end)) break;
    }
    items.push_back(parse());
  }
  return items;
}

ExpressionPtr ExpressionParser::parse_dict() {
  std::vector<ExpressionPtr> operands;
  while (!tokens_.take_operator("}")) {
    if (!operands.empty()) {
      tokens_.expect_operator(",");
      if (tokens_.take_operator("}")) break;
    }
    operands.push_back(parse());
    tokens_.expect_operator(":");
    operands.push_back(parse());
  }
  return make(Expression::kDict, "", std::move(operands));
}

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr operand) {
  for (;;) {
    if (tokens_.take_operator(".")) {
      if (tokens_.peek().kind == Token::kInteger) {
        ExpressionPtr place = parse_primary();
        operand = make(Expression::kItem, "", gather(std::move(operand), std::move(place)));
      } else {
        std::string name = tokens_.expect_any_name();
        operand = make(Expression::kAttribute, std::move(name), gather(std::move(operand)));
      }
    } else if (tokens_.take_operator("[")) {
      operand = parse_subscript(std::move(operand));
    } else if (tokens_.take_operator("(")) {
      operand = make(Expression::kCall, "", gather(std::move(operand)));
      parse_arguments(*operand);
    } else {
      return operand;
    }
  }
}

ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr operand) {
  std::vector<ExpressionPtr> operands = gather(std::move(operand));
  bool is_slice = false;
  while (!tokens_.take_operator("]")) {
    if (tokens_.take_operator(":")) {
      is_slice = true;
      if (operands.size() == 4) tokens_.unexpected("\"]\"");
      if (operands.size() == 1) operands.push_back(nullptr);
      if (tokens_.next_is_operator(":") || tokens_.next_is_operator("]")) {
        operands.push_back(nullptr);
        continue;
      }
    } else if (operands.size() > 1) {
      tokens_.unexpected("\"]\"");
    }
    operands.push_back(parse());
  }
  if (operands.size() == 1) tokens_.unexpected("a place");
  if (!is_slice) return make(Expression::kItem, "", std::move(operands));
  operands.resize(4);
  return make(Expression::kSlice, "", std::move(operands));
}

void ExpressionParser::parse_arguments(Expression& call) {
  bool is_first = true;
  while (!tokens_.take_operator(")")) {
    if (!is_first) {
      tokens_.expect_operator(",");
      if (tokens_.take_operator(")")) break;
    }
    is_first = false;
    if (tokens_.next_is_operator("*") || tokens_.next_is_operator("**")) {
      throw Failure{ErrorCode::kUnsupported, "arguments with * or ** are not supported"};
    }
    const Token& behind = tokens_.peek(1);
    if (tokens_.peek().kind == Token::kName && behind.kind == Token::kOperator && behind.text == "=") {
      std::string name = tokens_.take().text;
      tokens_.take();
      call.named.emplace_back(std::move(name), parse());
    } else if (!call.named.empty()) {
      tokens_.unexpected("a named argument");
    } else {
      call.operands.push_back(parse());
    }
  }
  // A filter that applies another filter (map) hands its arguments on, so their number is how deep that goes.
  constexpr std::size_t kMostArguments = 100;
  if (call.operands.size() + call.named.size() > kMostArguments) {
    throw Failure{ErrorCode::kCorrupt, fmt::format("more than {} arguments", kMostArguments)};
  }
  measure(call);
}

ExpressionPtr ExpressionParser::parse_filters(ExpressionPtr operand, bool starts_with_name) {
  for (;;) {
    if (starts_with_name || tokens_.take_operator("|")) {
      starts_with_name = false;
      std::string name = tokens_.expect_any_name();
      operand = make(Expression::kFilter, std::move(name), gather(std::move(operand)));
      if (tokens_.take_operator("(")) parse_arguments(*operand);
    } else if (tokens_.take_name("is")) {
      operand = parse_test(std::move(operand));
    } else if (tokens_.take_operator("(")) {
      operand = make(Expression::kCall, "", gather(std::move(operand)));
      parse_arguments(*operand);
    } else {
      return operand;
    }
  }
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr operand) {
  const bool negated = tokens_.take_name("not");
  std::string name = tokens_.expect_any_name();
  ExpressionPtr node = make(Expression::kTest, std::move(name), gather(std::move(operand)));
  const Token& next = tokens_.peek();
  if (tokens_.take_operator("(")) {
    parse_arguments(*node);
  } else {
    // An argument may stand without brackets: `x is divisibleby 3`.
    static constexpr std::array<std::string_view, 7> kGoesOn = {"else", "or", "and", "if", "in", "not", "is"};
    const bool is_value = next.kind == Token::kString || next.kind == Token::kInteger || next.kind == Token::kFloat ||
                          (next.kind == Token::kName && std::ranges::find(kGoesOn, next.text) == kGoesOn.end()) ||
                          tokens_.next_is_operator("[") || tokens_.next_is_operator("{");
    if (is_value) {
      node->operands.push_back(parse_postfix(parse_primary()));
      measure(*node);
    }
  }
  return negated ? make(Expression::kUnary, "not", gather(std::move(node))) : std::move(node);
}

}  // namespace krait::formats::jinja
