// What a model and its tokenizer say together: which token begins a text, which ones end it, and which may be drawn.
// The checkpoint's configuration and the tokenizer's files each name some, and neither is complete.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "krait/formats/tokenizer.h"
#include "krait/models/model.h"

namespace krait::runtime {

// The token that starts a text, where the tokenizer asks for one or the text is empty.
std::optional<formats::TokenId> start_token(const models::ModelInfo& model, const formats::Tokenizer& tokenizer,
                                            bool text_is_empty);

// The tokens to feed for a text. `at_start`: it is the first of its sequence and gets the token that starts a text,
// where the tokenizer asks for one or the text is empty. Empty only when there is nothing to feed: for an empty text
// that does not start, or of a model that has no such token.
std::vector<formats::TokenId> encode_prompt(const models::ModelInfo& model, const formats::Tokenizer& tokenizer,
                                            std::string_view text, bool at_start);

// The tokens that end a text, each once. `tokenizer` may be null.
std::vector<formats::TokenId> end_of_text_ids(const models::ModelInfo& model, const formats::Tokenizer* tokenizer);

// Ids below may be drawn: the embedding may be padded beyond the tokenizer, and a tokenizer may know more than the
// model. `tokenizer` may be null.
std::int64_t drawable_vocabulary(const models::ModelInfo& model, const formats::Tokenizer* tokenizer);

}  // namespace krait::runtime
