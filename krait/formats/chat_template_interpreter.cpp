// Statements.
#include "krait/formats/chat_template_interpreter.h"

#include <algorithm>

#include "krait/formats/chat_template_filters.h"

namespace krait::formats::jinja {
namespace {

class Depth {
 public:
  explicit Depth(int& depth) : depth_(depth) {
    // Of statements, expressions and macros within one another: each takes a part of the machine's stack.
    constexpr int kDeepest = 500;
    if (depth_ == kDeepest) {
      throw Failure{ErrorCode::kResourceExhausted,
                    fmt::format("statements and macros nested deeper than {}", kDeepest)};
    }
    ++depth_;
  }
  ~Depth() { --depth_; }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;

 private:
  int& depth_;
};

}  // namespace

Interpreter::Interpreter(const Dict& variables, std::uint64_t steps, std::size_t output_bytes,
                         std::optional<std::time_t> now)
    : variables_(variables), budget_(steps), output_bytes_(output_bytes), now_(now) {}

std::string Interpreter::run(const Block& block) {
  Scope scope(nullptr);
  std::string out;
  run_block(block, scope, out);
  return out;
}

void Interpreter::write(std::string_view text, std::string& out) {
  if (text.size() > output_bytes_ - std::min(output_bytes_, out.size())) {
    throw Failure{ErrorCode::kResourceExhausted, fmt::format("the text grows past {} bytes", output_bytes_)};
  }
  budget_.spend_text(text.size());
  out += text;
}

Interpreter::Flow Interpreter::run_block(const Block& block, Scope& scope, std::string& out) {
  for (const auto& statement : block) {
    const Flow flow = run_statement(*statement, scope, out);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_statement(const Statement& statement, Scope& scope, std::string& out) {
  const Depth depth(depth_);
  line_ = statement.line;
  budget_.spend(1);
  switch (statement.kind) {
    case Statement::kText: write(statement.text, out); break;
    case Statement::kOutput: write(to_text(evaluate(*statement.value, scope), budget_), out); break;
    case Statement::kIf: return run_if(statement, scope, out);
    case Statement::kFor: return run_for(statement, scope, out);
    case Statement::kSet: run_set(statement, scope); break;
    case Statement::kMacro: scope.set(statement.text, std::make_shared<Macro>(statement, scope)); break;
    case Statement::kCallBlock: write(to_text(call(*statement.value, scope, &statement), budget_), out); break;
    case Statement::kFilterBlock:
      write(to_text(evaluate_filter(*statement.value, run_inner(statement, scope), scope), budget_), out);
      break;
    case Statement::kWith: {
      Scope inner(&scope);
      // The values are those of the scope outside.
      for (const auto& [name, value] : statement.settings) inner.set(name, evaluate(*value, scope));
      return run_block(statement.body, inner, out);
    }
    case Statement::kScope: {
      Scope inner(&scope);
      return run_block(statement.body, inner, out);
    }
    case Statement::kBreak: return Flow::kBreak;
    case Statement::kContinue: return Flow::kContinue;
  }
  return Flow::kNext;
}

std::string Interpreter::run_inner(const Statement& statement, Scope& scope) {
  Scope inner(&scope);
  std::string out;
  run_block(statement.body, inner, out);
  return out;
}

Interpreter::Flow Interpreter::run_if(const Statement& statement, Scope& scope, std::string& out) {
  for (const Statement::Branch& branch : statement.branches) {
    if (!branch.condition || evaluate(*branch.condition, scope).truth()) return run_block(branch.body, scope, out);
  }
  return Flow::kNext;
}

// The elements that the loop's condition lets through.
Values Interpreter::loop_items(const Statement& statement, Scope& scope) {
  Values all = elements(evaluate(*statement.value, scope), budget_);
  if (!statement.condition) return all;
  Values chosen;
  for (Value& value : all) {
    Scope inner(&scope);
    assign(statement.target, value, inner);
    if (evaluate(*statement.condition, inner).truth()) chosen.push_back(std::move(value));
  }
  return chosen;
}

Interpreter::Flow Interpreter::run_for(const Statement& statement, Scope& scope, std::string& out) {
  const auto items = std::make_shared<const Values>(loop_items(statement, scope));
  // What is in `otherwise` belongs to the loop outside.
  if (items->empty()) return run_block(statement.otherwise, scope, out);
  auto loop = std::make_shared<Loop>();
  loop->items = items;
  loop->depth = ++loops_;
  for (std::size_t i = 0; i < items->size(); ++i) {
    budget_.spend(1);
    loop->index = i;
    Scope inner(&scope);
    inner.set("loop", loop);
    assign(statement.target, (*items)[i], inner);
    if (run_block(statement.body, inner, out) == Flow::kBreak) break;
  }
  --loops_;
  return Flow::kNext;
}

void Interpreter::assign(const Target& target, Value value, Scope& scope) {
  if (!target.attribute.empty()) {
    const Value* owner = scope.find(target.names.front());
    auto* space = owner == nullptr ? nullptr : owner->as<Namespace>();
    if (space == nullptr) refuse("\"{}\" is no namespace: its attributes cannot be set", target.names.front());
    if (value.is_object()) refuse("a {} cannot be kept in a namespace", value.type_name());
    space->values.insert_or_assign(target.attribute, std::move(value));
    return;
  }
  if (!target.takes_apart) {
    scope.set(target.names.front(), std::move(value));
    return;
  }
  if (value.is_undefined()) refuse("{}", value.undefined());
  Values parts = elements(value, budget_);
  if (parts.size() != target.names.size()) {
    refuse("{} values for the {} names from \"{}\"", parts.size(), target.names.size(), target.names.front());
  }
  for (std::size_t i = 0; i < parts.size(); ++i) scope.set(target.names[i], std::move(parts[i]));
}

void Interpreter::run_set(const Statement& statement, Scope& scope) {
  if (!statement.has_body) {
    assign(statement.target, evaluate(*statement.value, scope), scope);
    return;
  }
  Value text = run_inner(statement, scope);
  if (statement.value) text = evaluate_filter(*statement.value, std::move(text), scope);
  assign(statement.target, std::move(text), scope);
}

Value Interpreter::evaluate(const Expression& expression, Scope& scope) {
  const Depth depth(depth_);
  line_ = expression.line;
  budget_.spend(1);
  return evaluate_node(expression, scope);
}

Value Interpreter::call_macro(const Macro& macro, const Arguments& arguments, const Value* caller) {
  const Statement& statement = macro.statement;
  Parameters names;
  for (const Statement::Parameter& parameter : statement.parameters) names.push_back(parameter.name);
  const std::string_view name = statement.text.empty() ? "caller" : std::string_view(statement.text);
  const Bound bound(name, names, arguments);
  Scope inner(&macro.scope);
  if (caller != nullptr) inner.set("caller", *caller);
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto& [parameter, fallback] = statement.parameters[i];
    if (bound.has(i)) {
      inner.set(parameter, bound.at(i));
    } else if (fallback) {
      inner.set(parameter, evaluate(*fallback, inner));
    } else {
      inner.set(parameter, Undefined{fmt::format("parameter '{}' was not provided", parameter)});
    }
  }
  const std::size_t loops = std::exchange(loops_, 0);
  std::string out;
  run_block(statement.body, inner, out);
  loops_ = loops;
  return out;
}

}  // namespace krait::formats::jinja
