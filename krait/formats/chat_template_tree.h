// A parsed template: statements that hold expressions. Each node knows its line, for errors.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "krait/formats/chat_template_value.h"

namespace krait::formats::jinja {

struct Expression;
struct Statement;
using ExpressionPtr = std::unique_ptr<Expression>;
using Block = std::vector<std::unique_ptr<Statement>>;

struct Expression {
  enum Kind : std::uint8_t {
    kConstant,     // value
    kName,         // name
    kList,         // operands
    kTuple,        // operands
    kDict,         // operands: key, value, key, value …
    kAttribute,    // operands[0].name
    kItem,         // operands[0][operands[1]]
    kSlice,        // operands[0][operands[1] : operands[2] : operands[3]], null where left out
    kCall,         // operands[0](operands[1] …, named)
    kFilter,       // operands[0] | name(operands[1] …, named); operands[0] null: what a block gives
    kTest,         // operands[0] is name(operands[1] …)
    kUnary,        // name operands[0]: not + -
    kBinary,       // operands[0] name operands[1]: + - * / // % ** ~ and or
    kCompare,      // operands[0] names[0] operands[1] names[1] operands[2] …: == != < <= > >= in, not in
    kConditional,  // operands[0] if operands[1] else operands[2], which may be null
  };
  Kind kind;
  int line;
  int depth = 1;
  std::string name;
  Value value;
  std::vector<ExpressionPtr> operands;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  std::vector<std::string> names;
};

// Names that receive values: one, several that take a value apart, or an attribute of a namespace.
struct Target {
  std::vector<std::string> names;
  std::string attribute;  // of the namespace names[0]
  bool takes_apart = false;
};

struct Statement {
  enum Kind : std::uint8_t {
    kText,         // text
    kOutput,       // value
    kIf,           // branches
    kFor,          // for target in value if condition: body, else otherwise
    kSet,          // target = value; or the text of `body`, through the filters of `value` where there are any
    kMacro,        // text(parameters): body
    kCallBlock,    // value is a call, which gets `body` as caller(parameters)
    kFilterBlock,  // value is a filter over the text of `body`
    kWith,         // settings for `body`
    kScope,        // body alone: {% generation %}
    kBreak,
    kContinue,
  };
  struct Branch {
    ExpressionPtr condition;  // null: else
    Block body;
  };
  struct Parameter {
    std::string name;
    ExpressionPtr fallback;  // null: undefined
  };
  Kind kind;
  int line;
  std::string text;
  Target target;
  ExpressionPtr value;
  ExpressionPtr condition;
  bool has_body = false;
  Block body;
  Block otherwise;
  std::vector<Branch> branches;
  std::vector<Parameter> parameters;
  std::vector<std::pair<std::string, ExpressionPtr>> settings;
};

}  // namespace krait::formats::jinja
