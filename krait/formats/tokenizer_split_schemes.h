// What the names under GGUF's tokenizer.ggml.pre stand for: how byte-level BPE cuts a text before it merges. llama.cpp
// has these in its source, by name; files of Hugging Face spell them out. One table for reading and for writing.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace krait::formats {

// Patterns applied one after the other, each to the pieces of the one before.
struct SplitScheme {
  std::string_view names;  // separated by spaces
  std::vector<std::string_view> patterns;
  bool ignore_merges = false;
  bool adds_bos = false;

  std::string_view first_name() const { return names.substr(0, names.find(' ')); }
};

// Nothing when no scheme is called so, or has these patterns.
const SplitScheme* find_split_scheme(std::string_view name);
const SplitScheme* find_split_scheme(std::span<const std::string> patterns, bool ignore_merges);

}  // namespace krait::formats
