// Runs a parsed template over the variables of a conversation. Scopes are Jinja's: a loop's body, a macro and a block
// have scopes of their own, which see outward and write inward; `if` has none. A macro sees the scope it stands in.
#pragma once

#include <ctime>
#include <optional>
#include <string>
#include <unordered_map>

#include "krait/formats/chat_template_access.h"
#include "krait/formats/chat_template_tree.h"

namespace krait::formats::jinja {

class Scope {
 public:
  explicit Scope(Scope* outer) : outer_(outer) {}
  const Value* find(const std::string& name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->outer_) {
      if (const auto found = scope->values_.find(name); found != scope->values_.end()) return &found->second;
    }
    return nullptr;
  }
  void set(const std::string& name, Value value) { values_.insert_or_assign(name, std::move(value)); }

 private:
  Scope* outer_;
  std::unordered_map<std::string, Value> values_;
};

// A macro, or the body of a call block. It cannot leave the scope it stands in: no value that outlives that holds it.
struct Macro : Object {
  Macro(const Statement& the_statement, Scope& the_scope) : statement(the_statement), scope(the_scope) {}
  const Statement& statement;
  Scope& scope;
  std::string_view type_name() const override { return "macro"; }
};

class Interpreter {
 public:
  Interpreter(const Dict& variables, std::uint64_t steps, std::size_t output_bytes, std::optional<std::time_t> now);

  std::string run(const Block& block);
  int line() const { return line_; }

 private:
  enum class Flow { kNext, kBreak, kContinue };

  Flow run_block(const Block& block, Scope& scope, std::string& out);
  Flow run_statement(const Statement& statement, Scope& scope, std::string& out);
  Flow run_if(const Statement& statement, Scope& scope, std::string& out);
  Flow run_for(const Statement& statement, Scope& scope, std::string& out);
  void run_set(const Statement& statement, Scope& scope);
  std::string run_inner(const Statement& statement, Scope& scope);
  void write(std::string_view text, std::string& out);
  void assign(const Target& target, Value value, Scope& scope);
  Values loop_items(const Statement& statement, Scope& scope);

  Value evaluate(const Expression& expression, Scope& scope);
  Value evaluate_node(const Expression& expression, Scope& scope);
  Value look_up(const std::string& name, const Scope& scope) const;
  Value evaluate_binary(const Expression& expression, Scope& scope);
  Value evaluate_compare(const Expression& expression, Scope& scope);
  Value evaluate_filter(const Expression& expression, Value input, Scope& scope);
  Value evaluate_slice(const Expression& expression, Scope& scope);
  Values evaluate_all(const Expression& expression, Scope& scope, std::size_t from);
  Arguments evaluate_arguments(const Expression& expression, Scope& scope);

  Value call(const Expression& expression, Scope& scope, const Statement* block);
  Value call_macro(const Macro& macro, const Arguments& arguments, const Value* caller);

  const Dict& variables_;
  Budget budget_;
  std::size_t output_bytes_;
  std::optional<std::time_t> now_;
  int line_ = 0;
  int depth_ = 0;
  std::size_t loops_ = 0;  // within one another
};

// Functions that every template has: range, namespace, dict, raise_exception, strftime_now.
bool has_function(std::string_view name);
Value call_function(std::string_view name, const Arguments& arguments, std::optional<std::time_t> now, Budget& budget);

// The name of such a function, before it is called.
struct Function : Object {
  explicit Function(std::string the_name) : name(std::move(the_name)) {}
  std::string name;
  std::string_view type_name() const override { return "function"; }
};

}  // namespace krait::formats::jinja
