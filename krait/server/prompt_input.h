// What a client gives a model to read: text, or the ids of tokens; one, or several in an array.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "krait/formats/tokenizer.h"
#include "krait/server/json_reader.h"

namespace krait::server {

using PromptInput = std::variant<std::string, std::vector<formats::TokenId>>;

// A string, an array of strings, an array of ids, or an array of such arrays. Anything else is complained about; none
// where the member is absent.
std::vector<PromptInput> read_prompts(JsonReader& body, std::string_view name);

}  // namespace krait::server
