#include "krait/server/tool_form.h"

#include <fmt/format.h>

#include <algorithm>

namespace krait::server {
namespace {

struct KnownForm {
  std::string_view sign;  // in the template's text
  ToolForm form;
};

// The first whose sign is there: the special ones before those whose signs stand in theirs.
const std::vector<KnownForm>& known_forms() {
  using Body = ToolForm::Body;
  static const std::vector<KnownForm> kForms = {
      {"<function=", {"qwen3-coder", "<tool_call>", "</tool_call>", "\n", Body::xml, ""}},
      {"<TOOLCALL>", {"nemotron", "<TOOLCALL>", "</TOOLCALL>", "", Body::list, "arguments"}},
      {"<tool_calls>", {"jamba", "<tool_calls>", "</tool_calls>", "\n", Body::list, "arguments"}},
      {"[TOOL_CALLS]", {"mistral", "[TOOL_CALLS]", "", "", Body::list, "arguments"}},
      {"<tool_call>", {"hermes", "<tool_call>", "</tool_call>", "\n", Body::object, "arguments"}},
      {"\"parameters\": ", {"llama3", "", "", "", Body::object, "parameters"}},
  };
  return kForms;
}

}  // namespace

const ToolDefinition* ToolUse::find(std::string_view name) const {
  const auto found = std::ranges::find(tools, name, &ToolDefinition::name);
  return found == tools.end() || (!only.empty() && name != only) ? nullptr : &*found;
}

const ToolForm& generic_tool_form() {
  static const ToolForm kForm = {"generic", "<tool_call>", "</tool_call>", "\n", ToolForm::Body::object, "arguments"};
  return kForm;
}

const ToolForm& tool_form_of(std::string_view template_source) {
  for (const KnownForm& known : known_forms()) {
    if (template_source.find(known.sign) != std::string_view::npos) return known.form;
  }
  return generic_tool_form();
}

std::string tool_instructions(std::string_view tools_json) {
  return fmt::format(
      "You can call these functions: {}\n"
      "To call one, answer with its name and its arguments, and nothing behind them:\n"
      "<tool_call>\n{{\"name\": \"NAME\", \"arguments\": {{…}}}}\n</tool_call>",
      tools_json);
}

std::string generic_call(const ToolCall& call) {
  return fmt::format("<tool_call>\n{{\"name\": \"{}\", \"arguments\": {}}}\n</tool_call>", call.name, call.arguments);
}

}  // namespace krait::server
