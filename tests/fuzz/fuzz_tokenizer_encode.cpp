// Any bytes as text, through byte-level BPE: they come back exactly, a stream gives the same ids, and decoding token
// by token never shows half a character.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "krait/formats/tokenizer.h"
#include "krait/formats/tokenizer_utf8.h"
#include "tests/formats/tokenizer_samples.h"

namespace {

using namespace krait::formats;

const std::vector<std::unique_ptr<Tokenizer>>& tokenizers() {
  static const auto all = [] {
    std::vector<std::unique_ptr<Tokenizer>> made;
    for (const char* pre : {R"({"type": "ByteLevel", "add_prefix_space": false})",
                            R"({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": false},
              {"type": "Split", "pattern": {"String": "a"}, "behavior": "MergedWithNext", "invert": false},
              {"type": "ByteLevel", "add_prefix_space": false}]})"}) {
      made.push_back(*parse_tokenizer_json(krait::tests::byte_level_json("", pre), "sample"));
    }
    return made;
  }();
  return all;
}

void check(const Tokenizer& tokenizer, const std::string& text, std::size_t step) {
  const auto ids = tokenizer.encode(text);
  if (tokenizer.decode(ids, false) != text) std::abort();
  std::vector<TokenId> streamed;
  const auto encoder = tokenizer.encoder();
  for (std::size_t at = 0; at < text.size(); at += step) {
    encoder->feed(std::string_view(text).substr(at, step), streamed);
  }
  encoder->finish(streamed);
  if (streamed != ids) std::abort();
  TokenDecoder decoder(tokenizer, false);
  for (const TokenId id : ids) {
    const std::string part = decoder.feed(id);
    if (valid_utf8_end(part, 0) != part.size()) std::abort();
  }
  const std::string rest = decoder.finish();
  if (valid_utf8_end(rest, 0) != rest.size()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t step = 1 + data[0] * std::size_t{40};
  std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  for (const auto& tokenizer : tokenizers()) {
    check(*tokenizer, text, step);
    // The same text over and over, so that a stream fills several of its blocks.
    if (!text.empty() && data[0] == 0) {
      std::string repeated;
      while (repeated.size() < 10'000) repeated += text;
      check(*tokenizer, repeated, step);
    }
  }
  return 0;
}
