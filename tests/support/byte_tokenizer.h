// A tokenizer of the 256 bytes, for vocabularies of any size.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "krait/formats/tokenizer.h"

namespace krait::tests {

// One token for each byte, in the byte-level alphabet of GPT-2: printable bytes stand for themselves, the others
// follow from U+0100 on.
// More tokens than bytes are words that no text is split into.
inline std::unique_ptr<formats::Tokenizer> byte_tokenizer(int tokens = 256) {
  nlohmann::json vocabulary;
  int next = 0;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const int code = printable ? byte : 256 + next++;
    std::string symbol;
    if (code < 0x80) {
      symbol += static_cast<char>(code);
    } else {
      symbol += static_cast<char>(0xc0 | (code >> 6));
      symbol += static_cast<char>(0x80 | (code & 0x3f));
    }
    vocabulary[symbol] = byte;
  }
  for (int word = 256; word < tokens; ++word) vocabulary[std::string(1, '<').append(std::to_string(word))] = word;
  const nlohmann::json json = {
      {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", nlohmann::json::array()}}},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"decoder", {{"type", "ByteLevel"}}},
      {"added_tokens", nlohmann::json::array()},
      {"normalizer", nullptr},
      {"post_processor", nullptr}};
  auto tokenizer = formats::parse_tokenizer_json(json.dump(), "test");
  if (!tokenizer) throw std::runtime_error(tokenizer.error().message);
  return *std::move(tokenizer);
}

}  // namespace krait::tests
