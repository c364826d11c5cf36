#include "krait/formats/tokenizer_split_schemes.h"

#include <algorithm>

#include "krait/formats/tokenizer_pretokenizer.h"

namespace krait::formats {
namespace {

const std::vector<SplitScheme>& split_schemes() {
  static const std::vector<SplitScheme> schemes = {
      {"gpt-2 gpt-neox mpt olmo jais phi-2 trillion", {kGpt2Pattern}},
      {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 lfm2", {kLlama3Pattern}, true, true},
      {"dbrx smaug-bpe", {kLlama3Pattern}},
      {"qwen2 deepseek-r1-qwen stablelm2 hunyuan", {kQwen2Pattern}},
      {"starcoder refact command-r smollm codeshell", {R"(\p{N})", kGpt2Pattern}},
      {"falcon", {R"([\p{P}$+<=>^~|`]+)", kGpt2Pattern, "[0-9][0-9][0-9]"}},
      {"default", {R"([\p{P}$+<=>^~|]+)", kGpt2Pattern, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
  };
  return schemes;
}

}  // namespace

const SplitScheme* find_split_scheme(std::string_view name) {
  for (const SplitScheme& scheme : split_schemes()) {
    for (std::string_view names = scheme.names; !names.empty();) {
      const std::size_t space = std::min(names.find(' '), names.size());
      if (names.substr(0, space) == name) return &scheme;
      names.remove_prefix(std::min(space + 1, names.size()));
    }
  }
  return nullptr;
}

const SplitScheme* find_split_scheme(std::span<const std::string> patterns, bool ignore_merges) {
  for (const SplitScheme& scheme : split_schemes()) {
    if (scheme.ignore_merges == ignore_merges && std::ranges::equal(scheme.patterns, patterns)) return &scheme;
  }
  return nullptr;
}

}  // namespace krait::formats
