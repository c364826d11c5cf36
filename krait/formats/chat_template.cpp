// The doors of the interpreter, where a Failure becomes an error with the template's name and line.
#include "krait/formats/chat_template.h"

#include "krait/formats/chat_template_context.h"
#include "krait/formats/chat_template_interpreter.h"
#include "krait/formats/chat_template_parser.h"
#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats {
namespace {

// The longest published ones have some 30 kB.
constexpr std::size_t kLongestTemplate = std::size_t{1} << 20;

bool reads_name(const jinja::Expression& expression, std::string_view name) {
  if (expression.kind == jinja::Expression::kName && expression.name == name) return true;
  for (const auto& operand : expression.operands) {
    if (operand && reads_name(*operand, name)) return true;
  }
  for (const auto& [parameter, operand] : expression.named) {
    if (reads_name(*operand, name)) return true;
  }
  return false;
}

bool reads_name(const jinja::Block& block, std::string_view name) {
  const auto reads = [&](const jinja::ExpressionPtr& expression) {
    return expression && reads_name(*expression, name);
  };
  for (const auto& statement : block) {
    if (reads(statement->value) || reads(statement->condition)) return true;
    if (reads_name(statement->body, name) || reads_name(statement->otherwise, name)) return true;
    for (const auto& branch : statement->branches) {
      if (reads(branch.condition) || reads_name(branch.body, name)) return true;
    }
    for (const auto& parameter : statement->parameters) {
      if (reads(parameter.fallback)) return true;
    }
    for (const auto& [setting, value] : statement->settings) {
      if (reads(value)) return true;
    }
  }
  return false;
}

}  // namespace

struct ChatTemplate::Parsed {
  std::string origin;
  std::string source;
  jinja::Block block;
};

Result<ChatTemplate> ChatTemplate::parse(std::string_view text, std::string origin) {
  if (text.size() > kLongestTemplate) {
    return fail(ErrorCode::kCorrupt, "[chat template] too long: {} > {} bytes ({})", text.size(), kLongestTemplate,
                origin);
  }
  if (const std::size_t end = valid_utf8_end(text, 0); end != text.size()) {
    return fail(ErrorCode::kCorrupt, "[chat template] not UTF-8 at byte {} ({})", end, origin);
  }
  int line = 1;
  try {
    auto parsed = std::make_shared<Parsed>();
    parsed->block = jinja::parse_template(text, line);
    parsed->origin = std::move(origin);
    parsed->source = text;
    return ChatTemplate(std::move(parsed));
  } catch (const jinja::Failure& failure) {
    return fail(failure.code, "[chat template] line {}: {} ({})", line, failure.message, origin);
  }
}

Result<std::string> ChatTemplate::render(const ChatContext& context, const ChatTemplateLimits& limits,
                                         std::optional<std::time_t> now) const {
  jinja::Interpreter interpreter(context.variables().dict, limits.steps, limits.output_bytes, now);
  try {
    return interpreter.run(parsed_->block);
  } catch (const jinja::Failure& failure) {
    return fail(failure.code, "[chat template] line {}: {} ({})", interpreter.line(), failure.message, parsed_->origin);
  }
}

bool ChatTemplate::reads(std::string_view variable) const { return reads_name(parsed_->block, variable); }
const std::string& ChatTemplate::source() const { return parsed_->source; }
const std::string& ChatTemplate::origin() const { return parsed_->origin; }

}  // namespace krait::formats
