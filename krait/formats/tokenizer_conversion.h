// A vocabulary from one kind of file to another: tokenizer.json of Hugging Face and the "tokenizer.ggml.*" keys of a
// GGUF. Two kinds: byte-level BPE ("gpt2"), and SentencePiece's BPE with byte fallback ("llama").
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "krait/core/error.h"
#include "krait/formats/config.h"

namespace krait::formats {

// What a GGUF says of a vocabulary, and what of the original it cannot say.
struct GgufVocabulary {
  Config keys;
  std::vector<std::string> losses;
};

// From a folder with tokenizer.json (and tokenizer_config.json). The vocabulary is filled up to `rows`, the rows of the
// embedding, with unused tokens, since engines insist. kNotFound without a tokenizer.json; kUnsupported for what the
// keys have no words for: Unigram, a split pattern that none of llama.cpp's names stands for, merges that no scores
// imply, more tokens than rows.
Result<GgufVocabulary> vocabulary_to_gguf(const std::filesystem::path& folder, std::int64_t rows);

// The texts of tokenizer.json and tokenizer_config.json.
struct VocabularyFiles {
  std::string tokenizer, config;
  std::vector<std::string> losses;
};
// kNotFound for a file without a vocabulary; the errors of tokenizer_from_gguf(); kUnsupported for a token that stands
// twice, a space put before split text, RWKV's "World".
Result<VocabularyFiles> vocabulary_from_gguf(const Config& metadata);

}  // namespace krait::formats
