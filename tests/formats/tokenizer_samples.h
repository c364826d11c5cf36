// Small tokenizers spelled out in code, and deterministic mixed text to put through them.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace krait::tests {

// Byte-level BPE over all 256 bytes with a few merges, the NeoX way: NFC is optional, runs of spaces are added tokens
// found in the normalised text, <|end|> is special.
std::string byte_level_json(const std::string& normalizer, const std::string& pre_tokenizer);

// SentencePiece-style BPE with byte fallback, as Llama-2 files have it: Prepend and Replace, no pre-tokenizer.
std::string byte_fallback_json();

// Unigram with Metaspace.
std::string unigram_json();

// Text of about `size` bytes: words, accents in both forms, CJK, emoji with joiners, code, digits, runs of white
// space, the added tokens of the samples and, if `broken`, bytes that are not UTF-8.
std::string mixed_text(std::uint64_t seed, std::size_t size, bool broken);

}  // namespace krait::tests
