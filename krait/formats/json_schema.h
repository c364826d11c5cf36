// JSON schemas as grammars of the JSON texts they describe (draft 2020-12 and what OpenAI's structured output takes of
// it). The rule throughout: the grammar may describe fewer texts than the schema allows, never more; what cannot be
// kept is refused by name. docs/structured_output.md lists what is taken, what is narrowed and what is refused.
#pragma once

#include <string_view>

#include "krait/core/error.h"
#include "krait/formats/grammar.h"

namespace krait::formats {

// White space behind { [ , : and before } ]: none, or at most one space or line end, so that no text is filled with it.
enum class JsonSpace { kNone, kOne };

struct JsonSchemaOptions {
  JsonSpace space = JsonSpace::kOne;
};

inline constexpr std::size_t kMaximumSchemaBytes = std::size_t{1} << 20;

// kInvalidArgument for what is no JSON or no schema, kUnsupported for keywords that a grammar cannot keep; both name
// the place as a JSON pointer.
Result<Grammar> grammar_of_json_schema(std::string_view schema, const JsonSchemaOptions& options);

// Any JSON object.
Grammar grammar_of_json_object(const JsonSchemaOptions& options);

}  // namespace krait::formats
