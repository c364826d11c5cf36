#include "tests/formats/tokenizer_samples.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "krait/formats/tokenizer_byte_alphabet.h"

namespace krait::tests {

using Json = nlohmann::json;

std::string byte_level_json(const std::string& normalizer, const std::string& pre_tokenizer) {
  Json vocab = Json::object();
  int next = 0;
  vocab["<|end|>"] = next++;
  for (int byte = 0; byte < 256; ++byte) {
    vocab[formats::spell_bytes(std::string(1, static_cast<char>(byte)))] = next++;
  }
  Json merges = Json::array();
  const std::vector<std::pair<std::string, std::string>> pairs = {
      {"t", "h"},       {"th", "e"}, {" ", "the"},     {"i", "n"},       {"in", "g"},       {"e", "r"},   {" ", "a"},
      {"\xC3", "\xA9"}, {"a", "a"},  {"aa", "aa"},     {"\xE6", "\xBC"}, {" ", " "},        {"\n", "\n"}, {"1", "2"},
      {"12", "3"},      {"'", "s"},  {"\xF0", "\x9F"}, {"o", "n"},       {" ", "\xC3\xA9"}, {" ", "x"}};
  for (const auto& [left, right] : pairs) {
    merges.push_back(formats::spell_bytes(left) + " " + formats::spell_bytes(right));
    vocab[formats::spell_bytes(left + right)] = next++;
  }
  Json added = Json::array();
  added.push_back({{"id", 0}, {"content", "<|end|>"}, {"special", true}, {"normalized", false}});
  for (int spaces = 8; spaces >= 2; --spaces) {
    added.push_back({{"id", next++},
                     {"content", std::string(static_cast<std::size_t>(spaces), ' ')},
                     {"special", false},
                     {"normalized", true}});
  }
  const Json root = {{"version", "1.0"},
                     {"added_tokens", added},
                     {"normalizer", normalizer.empty() ? Json() : Json::parse(normalizer)},
                     {"pre_tokenizer", pre_tokenizer.empty() ? Json() : Json::parse(pre_tokenizer)},
                     {"decoder", {{"type", "ByteLevel"}}},
                     {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
  return root.dump();
}

std::string byte_fallback_json() {
  Json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  int next = 3;
  for (int byte = 0; byte < 256; ++byte) vocab[fmt::format("<0x{:02X}>", byte)] = next++;
  for (const char* token : {"▁", "t", "h", "e", "i", "n", "g", "a", "é", "漢", "x", "s", "o"}) vocab[token] = next++;
  Json merges = Json::array();
  const std::vector<std::pair<std::string, std::string>> pairs = {
      {"▁", "t"}, {"▁t", "h"}, {"▁th", "e"}, {"i", "n"}, {"in", "g"}, {"▁", "▁"}, {"▁▁", "▁▁"}, {"a", "a"}, {"▁", "a"}};
  for (const auto& [left, right] : pairs) {
    merges.push_back(Json::array({left, right}));
    vocab[left + right] = next++;
  }
  const Json root = {
      {"added_tokens", Json::array({{{"id", 0}, {"content", "<unk>"}, {"special", true}},
                                    {{"id", 1}, {"content", "<s>"}, {"special", true}},
                                    {{"id", 2}, {"content", "</s>"}, {"special", true}}})},
      {"normalizer",
       {{"type", "Sequence"},
        {"normalizers", Json::array({{{"type", "Prepend"}, {"prepend", "▁"}},
                                     {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}}})}}},
      {"pre_tokenizer", nullptr},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single", Json::array({{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
                                {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}})}}},
      {"decoder",
       {{"type", "Sequence"},
        {"decoders", Json::array({{{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}},
                                  {{"type", "ByteFallback"}},
                                  {{"type", "Fuse"}},
                                  {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}})}}},
      {"model",
       {{"type", "BPE"},
        {"unk_token", "<unk>"},
        {"fuse_unk", true},
        {"byte_fallback", true},
        {"vocab", vocab},
        {"merges", merges}}}};
  return root.dump();
}

std::string unigram_json() {
  Json vocab = Json::array({Json::array({"<unk>", 0.0}), Json::array({"▁", -2.0}),  Json::array({"▁the", -3.0}),
                            Json::array({"▁t", -4.5}),   Json::array({"he", -4.0}), Json::array({"ing", -4.25}),
                            Json::array({"in", -4.5}),   Json::array({"g", -5.0}),  Json::array({"a", -5.0}),
                            Json::array({"aa", -6.5}),   Json::array({"▁a", -4.0}), Json::array({"é", -6.0}),
                            Json::array({"h", -6.0}),    Json::array({"e", -6.0}),  Json::array({"t", -6.0}),
                            Json::array({"i", -6.0}),    Json::array({"n", -6.0}),  Json::array({"漢字", -7.0}),
                            Json::array({"s", -5.5}),    Json::array({"o", -5.5}),  Json::array({"on", -5.75})});
  const Json metaspace = {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "always"}};
  const Json root = {{"added_tokens", Json::array({{{"id", 0}, {"content", "<unk>"}, {"special", true}}})},
                     {"normalizer", {{"type", "NFKC"}}},
                     {"pre_tokenizer", metaspace},
                     {"decoder", metaspace},
                     {"model", {{"type", "Unigram"}, {"unk_id", 0}, {"vocab", vocab}}}};
  return root.dump();
}

std::string mixed_text(std::uint64_t seed, std::size_t size, bool broken) {
  static const std::vector<std::string> fragments = {"the",
                                                     " the",
                                                     " thing",
                                                     "theirs",
                                                     "I'll",
                                                     "don't",
                                                     "'s",
                                                     " x's",
                                                     "WE'RE",
                                                     "'",
                                                     "''",
                                                     " a",
                                                     "aaaa",
                                                     "naïve",
                                                     " e\u0301te\u0301",
                                                     "é",
                                                     "o\u0302\u0323",
                                                     "\u0301",
                                                     "ﬁ",
                                                     "Ω",
                                                     "ÅA\u030A",
                                                     "漢字",
                                                     "仮名まじり",
                                                     "。",
                                                     "한국어",
                                                     "\u1112\u1161\u11AB",
                                                     "👩‍👩‍👧",
                                                     "🇫🇷",
                                                     "😀",
                                                     "\uFE0F",
                                                     "1",
                                                     "12",
                                                     "123",
                                                     "1234567",
                                                     "٣٤",
                                                     "½",
                                                     "²",
                                                     "x += y;",
                                                     "}\n\n",
                                                     "\tif (a<b)",
                                                     "//==",
                                                     "...",
                                                     " ",
                                                     "  ",
                                                     "   ",
                                                     "        ",
                                                     "         ",
                                                     "\n",
                                                     "\n\n",
                                                     "\r\n",
                                                     " \n ",
                                                     "\t",
                                                     "\u00A0",
                                                     "\u3000",
                                                     "\u2028",
                                                     "<|end|>",
                                                     "<|end",
                                                     "|>",
                                                     "<s>",
                                                     "</s>",
                                                     "<unk>",
                                                     "▁",
                                                     "▁▁the",
                                                     "<0x41>",
                                                     "İ",
                                                     "Σς",
                                                     "ǅ",
                                                     "-",
                                                     "_",
                                                     "$5.00",
                                                     "a\u0300b",
                                                     "्क",
                                                     "ไทย"};
  static const std::vector<std::string> ill_formed = {"\xFF",     "\x80",
                                                      "\xC3",     "\xE6\xBC",
                                                      "\xF0\x9F", "\xED\xA0\x80",
                                                      "\xC0\xAF", "\xF4\x90\x80\x80",
                                                      "\xF8",     std::string(1, '\0')};
  std::mt19937_64 random(seed);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  std::string text;
  while (text.size() < size) {
    if (broken && below(12) == 0) {
      text += ill_formed[below(ill_formed.size())];
    } else if (below(60) == 0) {
      const std::string& fragment = fragments[below(fragments.size())];
      for (std::size_t i = below(60); i > 0; --i) text += fragment;  // a long run of one thing
    } else {
      if (below(3) != 0) text += ' ';
      text += fragments[below(fragments.size())];
    }
  }
  return text;
}

}  // namespace krait::tests
