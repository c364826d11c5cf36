// The parts of RWKV's World tokenizer that other readers of tokenizers need. Internal to formats.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/formats/tokenizer.h"

namespace krait::formats {

// The inside of a Python literal: of bytes, or of a text, which becomes UTF-8. Nothing when it is none.
std::optional<std::string> unescape_python(std::string_view text, bool bytes);

// Token bytes by id; entry 0, which ends a text, does not matter. kCorrupt unless every single byte is a token.
Result<std::unique_ptr<Tokenizer>> make_world_tokenizer(std::vector<std::string> tokens, const std::string& origin);

}  // namespace krait::formats
