// The alphabet of byte-level BPE (GPT-2): each of the 256 bytes is spelled as one visible character. The bytes
// 33–126, 161–172 and 174–255 stand for themselves in Latin-1; the rest, in order, for U+0100, U+0101, ….
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace krait::formats {

std::string spell_bytes(std::string_view bytes);
// Nothing when a character is not of the alphabet.
std::optional<std::string> unspell_bytes(std::string_view spelled);

}  // namespace krait::formats
