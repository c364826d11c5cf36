// Statements. Those that templates of conversations have no use for, since they read other files (include, import,
// extends, block), are refused by name.
#include "krait/formats/chat_template_parser.h"

#include <algorithm>
#include <initializer_list>

namespace krait::formats::jinja {
namespace {

class StatementParser {
 public:
  explicit StatementParser(TokenStream& tokens) : tokens_(tokens), expressions_(tokens, depth_) {}

  Block parse() {
    Block block = parse_block({});
    if (tokens_.peek().kind != Token::kEnd) tokens_.unexpected("a statement");
    return block;
  }

 private:
  using Ends = std::initializer_list<std::string_view>;

  // Statements up to {% with one of the names, whose tokens up to the name are taken.
  Block parse_block(Ends ends) {
    Block block;
    for (;;) {
      const Token& token = tokens_.peek();
      if (token.kind == Token::kEnd) {
        if (ends.size() > 0) tokens_.unexpected(fmt::format("{{% {} %}}", *(ends.end() - 1)));
        return block;
      }
      if (token.kind == Token::kText) {
        auto text = make(Statement::kText);
        text->text = tokens_.take().text;
        block.push_back(std::move(text));
      } else if (token.kind == Token::kOutputStart) {
        auto output = make(Statement::kOutput);
        tokens_.take();
        output->value = expressions_.parse_tuple_or_expression();
        tokens_.expect(Token::kOutputEnd, "\"}}\"");
        block.push_back(std::move(output));
      } else {
        tokens_.expect(Token::kStatementStart, "a statement");
        const Token& name = tokens_.peek();
        if (name.kind == Token::kName && std::ranges::find(ends, name.text) != ends.end()) return block;
        block.push_back(parse_statement());
      }
    }
  }

  std::unique_ptr<Statement> make(Statement::Kind kind) const {
    auto statement = std::make_unique<Statement>();
    statement->kind = kind;
    statement->line = tokens_.line();
    return statement;
  }

  void end_statement() { tokens_.expect(Token::kStatementEnd, "\"%}\""); }

  void parse_body(Statement& statement, std::string_view end) {
    end_statement();
    statement.has_body = true;
    statement.body = parse_block({end});
    tokens_.take();
    end_statement();
  }

  std::unique_ptr<Statement> parse_statement() {
    const Nesting nesting(depth_);
    const int line = tokens_.line();
    const std::string name = tokens_.expect_any_name();
    auto statement = make(Statement::kScope);
    statement->line = line;
    if (name == "if") {
      parse_if(*statement);
    } else if (name == "for") {
      parse_for(*statement);
    } else if (name == "set") {
      parse_set(*statement);
    } else if (name == "macro") {
      statement->kind = Statement::kMacro;
      statement->text = tokens_.expect_any_name();
      tokens_.expect_operator("(");
      parse_parameters(*statement);
      parse_outside_loops(*statement, "endmacro");
    } else if (name == "call") {
      statement->kind = Statement::kCallBlock;
      if (tokens_.take_operator("(")) parse_parameters(*statement);
      statement->value = expressions_.parse();
      if (statement->value->kind != Expression::kCall) tokens_.unexpected("a call");
      parse_outside_loops(*statement, "endcall");
    } else if (name == "filter") {
      statement->kind = Statement::kFilterBlock;
      statement->value = expressions_.parse_filters(nullptr, true);
      parse_body(*statement, "endfilter");
    } else if (name == "with") {
      parse_with(*statement);
    } else if (name == "generation") {
      // Marks what the assistant said, for training; nothing is written.
      parse_outside_loops(*statement, "endgeneration");
    } else if (name == "break" || name == "continue") {
      if (loops_ == 0) throw Failure{ErrorCode::kCorrupt, fmt::format("\"{}\" outside a loop", name)};
      statement->kind = name == "break" ? Statement::kBreak : Statement::kContinue;
      end_statement();
    } else {
      throw Failure{ErrorCode::kUnsupported, fmt::format("the statement \"{}\" is not supported", name)};
    }
    return statement;
  }

  // The body of a function of its own, which cannot break out of a loop round it.
  void parse_outside_loops(Statement& statement, std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    parse_body(statement, end);
    loops_ = loops;
  }

  void parse_if(Statement& statement) {
    statement.kind = Statement::kIf;
    bool has_else = false;
    for (;;) {
      Statement::Branch branch;
      if (!has_else) branch.condition = expressions_.parse_tuple_or_expression();
      end_statement();
      branch.body = has_else ? parse_block({"endif"}) : parse_block({"elif", "else", "endif"});
      statement.branches.push_back(std::move(branch));
      const std::string end = tokens_.take().text;
      if (end == "endif") break;
      has_else = end == "else";
    }
    end_statement();
  }

  void parse_for(Statement& statement) {
    statement.kind = Statement::kFor;
    statement.target = parse_target(false);
    tokens_.expect_name("in");
    // The condition of the loop, not of its list.
    statement.value = expressions_.parse_without_condition();
    if (tokens_.take_name("if")) statement.condition = expressions_.parse();
    if (tokens_.next_is_name("recursive")) {
      throw Failure{ErrorCode::kUnsupported, "recursive loops are not supported"};
    }
    end_statement();
    ++loops_;
    statement.body = parse_block({"else", "endfor"});
    --loops_;
    if (tokens_.take().text == "else") {
      end_statement();
      statement.otherwise = parse_block({"endfor"});
      tokens_.take();
    }
    end_statement();
  }

  Target parse_target(bool allows_attribute) {
    Target target;
    const bool bracket = tokens_.take_operator("(");
    target.names.push_back(tokens_.expect_any_name());
    if (allows_attribute && !bracket && tokens_.take_operator(".")) {
      target.attribute = tokens_.expect_any_name();
      return target;
    }
    while (tokens_.take_operator(",")) {
      target.takes_apart = true;
      if (tokens_.peek().kind != Token::kName || tokens_.next_is_name("in")) break;
      target.names.push_back(tokens_.expect_any_name());
    }
    if (bracket) tokens_.expect_operator(")");
    return target;
  }

  void parse_set(Statement& statement) {
    statement.kind = Statement::kSet;
    statement.target = parse_target(true);
    if (tokens_.take_operator("=")) {
      statement.value = expressions_.parse_tuple_or_expression();
      end_statement();
      return;
    }
    if (statement.target.takes_apart) tokens_.unexpected("\"=\"");
    if (tokens_.take_operator("|")) statement.value = expressions_.parse_filters(nullptr, true);
    parse_body(statement, "endset");
  }

  void parse_parameters(Statement& statement) {
    while (!tokens_.take_operator(")")) {
      if (!statement.parameters.empty()) {
        tokens_.expect_operator(",");
        if (tokens_.take_operator(")")) break;
      }
      Statement::Parameter parameter{tokens_.expect_any_name(), nullptr};
      if (tokens_.take_operator("=")) parameter.fallback = expressions_.parse();
      if (!parameter.fallback && !statement.parameters.empty() && statement.parameters.back().fallback) {
        tokens_.unexpected(fmt::format("a default of the parameter \"{}\"", parameter.name));
      }
      statement.parameters.push_back(std::move(parameter));
    }
  }

  void parse_with(Statement& statement) {
    statement.kind = Statement::kWith;
    while (tokens_.peek().kind != Token::kStatementEnd) {
      if (!statement.settings.empty()) tokens_.expect_operator(",");
      std::string name = tokens_.expect_any_name();
      tokens_.expect_operator("=");
      statement.settings.emplace_back(std::move(name), expressions_.parse());
    }
    parse_body(statement, "endwith");
  }

  TokenStream& tokens_;
  int depth_ = 0;
  int loops_ = 0;
  ExpressionParser expressions_;
};

}  // namespace

Block parse_template(std::string_view text, int& line) {
  TokenStream tokens(read_tokens(text, line), line);
  return StatementParser(tokens).parse();
}

}  // namespace krait::formats::jinja
