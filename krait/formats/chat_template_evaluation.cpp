// Expressions.
#include "krait/formats/chat_template_filters.h"
#include "krait/formats/chat_template_interpreter.h"
#include "krait/formats/chat_template_operators.h"

namespace krait::formats::jinja {

Value Interpreter::look_up(const std::string& name, const Scope& scope) const {
  if (const Value* found = scope.find(name)) return *found;
  if (const Value* found = variables_.find(name)) return *found;
  if (has_function(name)) return std::make_shared<Function>(name);
  return Undefined{fmt::format("'{}' is undefined", name)};
}

Value Interpreter::evaluate_node(const Expression& expression, Scope& scope) {
  const auto& operands = expression.operands;
  switch (expression.kind) {
    case Expression::kConstant: return expression.value;
    case Expression::kName: return look_up(expression.name, scope);
    case Expression::kList: return Value::list(evaluate_all(expression, scope, 0));
    case Expression::kTuple: return Value::tuple(evaluate_all(expression, scope, 0));
    case Expression::kDict: {
      Dict dict;
      for (std::size_t i = 0; i < operands.size(); i += 2) {
        Value key = evaluate(*operands[i], scope);
        dict.set(std::move(key), evaluate(*operands[i + 1], scope));
      }
      return dict;
    }
    case Expression::kAttribute: return attribute(evaluate(*operands[0], scope), expression.name);
    case Expression::kItem: {
      const Value owner = evaluate(*operands[0], scope);
      return item(owner, evaluate(*operands[1], scope), budget_);
    }
    case Expression::kSlice: return evaluate_slice(expression, scope);
    case Expression::kCall: return call(expression, scope, nullptr);
    case Expression::kFilter: return evaluate_filter(expression, evaluate(*operands[0], scope), scope);
    case Expression::kTest: {
      const Value value = evaluate(*operands[0], scope);
      return apply_test(expression.name, value, evaluate_arguments(expression, scope), budget_);
    }
    case Expression::kUnary: {
      const Value value = evaluate(*operands[0], scope);
      return expression.name == "not" ? Value(!value.truth()) : apply_sign(expression.name, value);
    }
    case Expression::kBinary: return evaluate_binary(expression, scope);
    case Expression::kCompare: return evaluate_compare(expression, scope);
    case Expression::kConditional:
      if (evaluate(*operands[1], scope).truth()) return evaluate(*operands[0], scope);
      if (operands[2]) return evaluate(*operands[2], scope);
      return Undefined{"the condition of an expression without \"else\" is false"};
  }
  return {};
}

Value Interpreter::evaluate_binary(const Expression& expression, Scope& scope) {
  Value left = evaluate(*expression.operands[0], scope);
  const bool is_and = expression.name == "and";
  if (is_and || expression.name == "or") {
    return left.truth() == is_and ? evaluate(*expression.operands[1], scope) : left;
  }
  return apply_binary(expression.name, left, evaluate(*expression.operands[1], scope), budget_);
}

// a < b < c is (a < b) and (b < c), with b evaluated once.
Value Interpreter::evaluate_compare(const Expression& expression, Scope& scope) {
  Value left = evaluate(*expression.operands[0], scope);
  for (std::size_t i = 0; i < expression.names.size(); ++i) {
    Value right = evaluate(*expression.operands[i + 1], scope);
    if (!apply_comparison(expression.names[i], left, right, budget_)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::evaluate_slice(const Expression& expression, Scope& scope) {
  Values parts;
  for (const ExpressionPtr& operand : expression.operands) {
    parts.push_back(operand ? evaluate(*operand, scope) : None{});
  }
  return slice(parts[0], parts[1], parts[2], parts[3], budget_);
}

// A filter of a block has no operand of its own at its beginning.
Value Interpreter::evaluate_filter(const Expression& expression, Value input, Scope& scope) {
  return apply_filter(expression.name, input, evaluate_arguments(expression, scope), budget_);
}

Values Interpreter::evaluate_all(const Expression& expression, Scope& scope, std::size_t from) {
  Values values;
  for (std::size_t i = from; i < expression.operands.size(); ++i) {
    values.push_back(evaluate(*expression.operands[i], scope));
  }
  return values;
}

Arguments Interpreter::evaluate_arguments(const Expression& expression, Scope& scope) {
  Arguments arguments;
  arguments.positional = evaluate_all(expression, scope, 1);
  for (const auto& [name, value] : expression.named) arguments.named.emplace_back(name, evaluate(*value, scope));
  return arguments;
}

// `block` is the body of a call block, which the macro gets as caller().
Value Interpreter::call(const Expression& expression, Scope& scope, const Statement* block) {
  const Value callee = evaluate(*expression.operands[0], scope);
  const Arguments arguments = evaluate_arguments(expression, scope);
  line_ = expression.line;
  if (callee.is_undefined()) refuse("{}", callee.undefined());
  if (const auto* macro = callee.as<Macro>()) {
    if (block == nullptr) return call_macro(*macro, arguments, nullptr);
    const Value caller = std::make_shared<Macro>(*block, scope);
    return call_macro(*macro, arguments, &caller);
  }
  if (const auto* method = callee.as<Method>()) return call_method(*method, arguments, budget_);
  if (const auto* function = callee.as<Function>()) return call_function(function->name, arguments, now_, budget_);
  refuse("a {} cannot be called", callee.type_name());
}

}  // namespace krait::formats::jinja
