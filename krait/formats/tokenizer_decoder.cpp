// Decoder steps, token by token.
#include "krait/formats/tokenizer_decoder.h"

#include <charconv>

#include "krait/formats/tokenizer_byte_alphabet.h"

namespace krait::formats {
namespace {

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  if (from.empty()) return;
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

void decode_byte_token(std::string& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return;
  unsigned value = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  if (error != std::errc() || end != token.data() + 5) return;
  token.assign(1, static_cast<char>(static_cast<unsigned char>(value)));
}

void strip(std::string& token, const DecoderStep& step) {
  if (step.from.empty()) return;
  for (std::size_t i = 0; i < step.left && token.starts_with(step.from); ++i) token.erase(0, step.from.size());
  for (std::size_t i = 0; i < step.right && token.ends_with(step.from); ++i) {
    token.erase(token.size() - step.from.size());
  }
}

}  // namespace

std::string decode_token(const DecoderParts& decoder, std::string_view token) {
  std::string text(token);
  for (const DecoderStep& step : decoder.steps) {
    switch (step.kind) {
      case DecoderStep::kByteLevel:
        if (auto bytes = unspell_bytes(text)) text = *std::move(bytes);
        break;
      case DecoderStep::kByteFallback: decode_byte_token(text); break;
      case DecoderStep::kReplace: replace_all(text, step.from, step.to); break;
      case DecoderStep::kStrip: strip(text, step); break;
    }
  }
  return decoder.separator + text;
}

TokenBytes::TokenBytes(const Vocabulary& vocabulary, const DecoderParts& decoder, const std::vector<bool>& literal) {
  ends_.reserve(static_cast<std::size_t>(vocabulary.size()));
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    const auto index = static_cast<std::size_t>(id);
    if (vocabulary.has(id)) {
      const std::string& token = vocabulary.token(id);
      bytes_ += index < literal.size() && literal[index] ? decoder.separator + token : decode_token(decoder, token);
    }
    ends_.push_back(bytes_.size());
  }
}

std::string_view TokenBytes::of(TokenId id) const {
  const auto index = static_cast<std::size_t>(id);
  if (id < 0 || index >= ends_.size()) return {};
  const std::size_t begin = index == 0 ? 0 : ends_[index - 1];
  return std::string_view(bytes_).substr(begin, ends_[index] - begin);
}

}  // namespace krait::formats
