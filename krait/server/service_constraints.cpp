// What a reply has to keep to: the form that the request names, or calls of functions, as a constraint of the engine's.
#include <fmt/format.h>

#include "krait/formats/grammar_regex.h"
#include "krait/formats/json_schema.h"
#include "krait/server/service.h"
#include "krait/server/tool_call_grammar.h"

namespace krait::server {
namespace {

using formats::Grammar;
using Kind = StructuredOutput::Kind;

Result<Grammar> grammar_of(const StructuredOutput& structured) {
  switch (structured.kind) {
    case Kind::none: break;
    case Kind::json: return formats::grammar_of_json_object({});
    case Kind::json_schema: return formats::grammar_of_json_schema(structured.text, {});
    case Kind::regex: return formats::grammar_of_regex(structured.text);
    case Kind::choice: return formats::grammar_of_choices(structured.choices);
  }
  return fail(ErrorCode::kInvalidArgument, "[constraint] no form is named");
}

// All that a grammar is made of, as one text. Lengths go before texts that may hold anything.
std::string key_of(const StructuredOutput& structured) {
  std::string key = fmt::format("{}:{}:{}", static_cast<int>(structured.kind), structured.text.size(), structured.text);
  for (const std::string& choice : structured.choices) key += fmt::format(":{}:{}", choice.size(), choice);
  return key;
}

std::string key_of(const ToolForm& form, const ToolUse& use, bool open) {
  std::string key = fmt::format("calls:{}:{}:{}", form.name, use.parallel, open);
  for (const ToolDefinition& tool : use.tools) {
    if (!use.only.empty() && tool.name != use.only) continue;
    key += fmt::format(":{}:{}:{}", tool.name, tool.parameters.size(), tool.parameters);
  }
  return key;
}

}  // namespace

ApiResult<std::shared_ptr<const runtime::Constraint>> Service::constraint_of(const StructuredOutput& structured,
                                                                             const Input& input) {
  const bool is_structured = structured.kind != Kind::none;
  const bool calls = input.form != nullptr;
  if (!is_structured && !(calls && input.tools.required)) return nullptr;
  std::string key;
  ConstraintCache::Build build;
  std::string member = structured.member;
  if (calls && input.tools.required) {
    member = "tools";
    key = key_of(*input.form, input.tools, input.hidden_marks);
    build = [&] { return tool_call_grammar(*input.form, input.tools, input.hidden_marks); };
  } else if (calls) {
    if (input.hidden_marks || structured.kind == Kind::regex || structured.kind == Kind::choice) {
      return std::unexpected(
          ApiError{.message = fmt::format("{}: cannot stand beside tools that may be called{}", member,
                                          input.hidden_marks ? ", in this model's form of calls" : ""),
                   .param = member,
                   .code = "unsupported_parameter"});
    }
    key = key_of(*input.form, input.tools, false) + "|" + key_of(structured);
    build = [&]() -> Result<Grammar> {
      KRAIT_ASSIGN(const Grammar content, grammar_of(structured));
      return tool_call_or_content_grammar(*input.form, input.tools, content);
    };
  } else {
    key = key_of(structured);
    build = [&] { return grammar_of(structured); };
  }
  auto constraint = constraints_.get(key, build);
  if (constraint) return *std::move(constraint);
  ApiError error = error_of(constraint.error());
  error.message = member + ": " + error.message;
  error.param = member;
  return std::unexpected(std::move(error));
}

}  // namespace krait::server
