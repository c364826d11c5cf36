// The table of byte-level BPE and its inverse.
#include "krait/formats/tokenizer_byte_alphabet.h"

#include <array>
#include <cstdint>

#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats {
namespace {

// 68 bytes are not visible, so the highest character is U+0143.
constexpr std::size_t kCharacters = 256 + 68;

struct Alphabet {
  std::array<std::uint16_t, 256> character{};
  std::array<std::int16_t, kCharacters> byte{};
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  alphabet.byte.fill(-1);
  std::uint16_t spare = 256;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool visible = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    const auto character = visible ? static_cast<std::uint16_t>(byte) : spare++;
    alphabet.character[byte] = character;
    alphabet.byte[character] = static_cast<std::int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::string spell_bytes(std::string_view bytes) {
  std::string spelled;
  spelled.reserve(bytes.size() * 2);
  for (const char c : bytes) append_utf8(kAlphabet.character[static_cast<unsigned char>(c)], spelled);
  return spelled;
}

std::optional<std::string> unspell_bytes(std::string_view spelled) {
  std::string bytes;
  bytes.reserve(spelled.size());
  for (std::size_t at = 0; at < spelled.size();) {
    const Utf8Step step = read_utf8(spelled, at);
    if (step.status != Utf8Step::kValid || step.code >= kCharacters || kAlphabet.byte[step.code] < 0) {
      return std::nullopt;
    }
    bytes.push_back(static_cast<char>(static_cast<unsigned char>(kAlphabet.byte[step.code])));
    at += step.length;
  }
  return bytes;
}

}  // namespace krait::formats
