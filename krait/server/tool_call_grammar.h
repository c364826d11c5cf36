// Replies that have to be calls of functions, as grammars: in the form that the model was trained on, with arguments
// that the function's schema accepts.
#pragma once

#include "krait/core/error.h"
#include "krait/formats/grammar.h"
#include "krait/server/tool_form.h"

namespace krait::server {

// Most calls in one reply that a grammar lets through: a model without an idea of when to stop is stopped.
inline constexpr int kMostCalls = 16;

// `open`: the opening mark and what follows it up to the body have been given to the model already, and marks cannot
// be written (they are special tokens). Errors name the function and what its schema has that cannot be kept.
Result<formats::Grammar> tool_call_grammar(const ToolForm& form, const ToolUse& use, bool open);

// Where the reply may also be a text of its own: JSON that `content` describes.
Result<formats::Grammar> tool_call_or_content_grammar(const ToolForm& form, const ToolUse& use,
                                                      const formats::Grammar& content);

}  // namespace krait::server
