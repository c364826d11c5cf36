// How a model writes calls of functions: the marks round them and the names within. Models are trained on one form,
// and their chat template shows which.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace krait::server {

// A function that a request offers.
struct ToolDefinition {
  std::string name;         // letters, digits, _ - and ., at most 64
  std::string description;  // may be empty
  std::string parameters;   // a JSON schema; empty: any object
};

struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // a JSON object, as text
};

// What a request says of functions. No tools: it says nothing, or "tool_choice": "none".
struct ToolUse {
  std::vector<ToolDefinition> tools;
  bool required = false;  // the reply has to be a call
  std::string only;       // of this function; empty: of any
  bool parallel = true;   // several calls in one reply

  const ToolDefinition* find(std::string_view name) const;
};

struct ToolForm {
  enum class Body {
    object,  // one JSON object between the marks: {"name": …, "arguments": {…}}
    list,    // a JSON array of such objects
    xml,     // <function=NAME><parameter=KEY>…</parameter></function>
  };
  std::string name;     // for tests and messages
  std::string opening;  // empty: the reply begins with the object itself
  std::string closing;  // may be empty
  std::string indent;   // between the marks and what they hold
  Body body = Body::object;
  std::string arguments = "arguments";  // the key of the object
};

// The form that a template's text shows; `generic_tool_form` when it shows none that is known here.
const ToolForm& tool_form_of(std::string_view template_source);
// That of the models of Hermes, which many others took over; with `tool_instructions` for those that know none.
const ToolForm& generic_tool_form();

// What tells a model of the functions, and of the generic form, when its template does not.
std::string tool_instructions(std::string_view tools_json);
// A call in the generic form.
std::string generic_call(const ToolCall& call);

}  // namespace krait::server
