// The tokenizer of what is trained on, as a training run reads it: tokenizer.json alone, since SentencePiece's files
// would bring a library that libtorch does not go with (docs/decisions/0019).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "krait/core/error.h"
#include "krait/formats/tokenizer.h"

namespace krait::train {

Result<std::unique_ptr<formats::Tokenizer>> open_tokenizer_json(const std::string& path);

// The token that ends a text: what the tokenizer's files name, else <|endoftext|>.
std::optional<formats::TokenId> end_of_text(const formats::Tokenizer& tokenizer);

}  // namespace krait::train
