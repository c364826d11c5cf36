// The tokenizer of RWKV's "World" models: the longest token of a fixed list that fits, again and again, over bytes.
// rwkv_vocab_v*.txt has a line for each token, `ID LITERAL LENGTH`, the literal as Python writes texts ('a\n') and
// bytes (b'\xff'); GGUF ("tokenizer.ggml.model" = "rwkv") the inside of such literals of bytes. Id 0 ends a text.
#include <algorithm>
#include <array>
#include <charconv>

#include "krait/formats/tokenizer.h"
#include "krait/formats/tokenizer_trie.h"
#include "krait/formats/tokenizer_utf8.h"
#include "krait/formats/tokenizer_world.h"

namespace krait::formats {
namespace {

constexpr TokenId kEndOfText = 0;
constexpr std::size_t kMostIds = std::size_t{1} << 20;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The code that `digits` hexadecimal digits from `at` on spell.
std::optional<char32_t> hex_code(std::string_view text, std::size_t at, std::size_t digits) {
  if (at + digits > text.size()) return std::nullopt;
  char32_t code = 0;
  for (std::size_t i = at; i < at + digits; ++i) {
    const int digit = hex_digit(text[i]);
    if (digit < 0) return std::nullopt;
    code = code * 16 + static_cast<char32_t>(digit);
  }
  return code;
}

}  // namespace

std::optional<std::string> unescape_python(std::string_view text, bool bytes) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    if (++i == text.size()) return std::nullopt;
    const char kind = text[i];
    constexpr std::string_view kPlain = "\\'\"ntrabfv", kMeaning = "\\'\"\n\t\r\a\b\f\v";
    if (const std::size_t plain = kPlain.find(kind); plain != std::string_view::npos) {
      out += kMeaning[plain];
      continue;
    }
    const std::size_t digits = kind == 'x' ? 2 : kind == 'u' && !bytes ? 4 : kind == 'U' && !bytes ? 8 : 0;
    const auto code = digits == 0 ? std::nullopt : hex_code(text, i + 1, digits);
    if (!code || *code > 0x10FFFF || (*code >= 0xD800 && *code < 0xE000)) return std::nullopt;
    if (bytes) {
      out += static_cast<char>(static_cast<unsigned char>(*code));
    } else {
      append_utf8(*code, out);
    }
    i += digits;
  }
  return out;
}

namespace {

class WorldTokenizer final : public Tokenizer {
 public:
  explicit WorldTokenizer(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {
    std::vector<std::pair<std::string, std::int32_t>> strings;
    for (std::size_t id = 1; id < tokens_.size(); ++id) {
      if (tokens_[id].empty()) continue;
      strings.emplace_back(tokens_[id], static_cast<std::int32_t>(id));
      longest_ = std::max(longest_, tokens_[id].size());
    }
    trie_ = ByteTrie(std::move(strings));
  }

  std::string_view kind() const override { return "world"; }
  std::int64_t size() const override { return static_cast<std::int64_t>(tokens_.size()); }

  std::vector<TokenId> encode(std::string_view text) const override {
    std::vector<TokenId> ids;
    while (!text.empty()) text.remove_prefix(encode_one(text, ids));
    return ids;
  }
  std::unique_ptr<TokenEncoder> encoder() const override { return std::make_unique<Encoder>(*this); }

  std::string decode(std::span<const TokenId> ids, bool) const override {
    std::string text;
    for (const TokenId id : ids) text += token_bytes(id);
    return text;
  }
  std::string_view token_bytes(TokenId id) const override {
    return id > 0 && id < size() ? std::string_view(tokens_[static_cast<std::size_t>(id)]) : std::string_view();
  }
  std::string_view start_drop() const override { return {}; }
  std::optional<TokenId> token_to_id(std::string_view token) const override {
    std::uint32_t node = ByteTrie::kRoot;
    for (const char c : token) {
      node = trie_.step(node, static_cast<unsigned char>(c));
      if (node == ByteTrie::kNoNode) return std::nullopt;
    }
    const std::int32_t id = trie_.value(node);
    return id < 0 ? std::nullopt : std::optional<TokenId>(id);
  }
  std::string id_to_token(TokenId id) const override {
    return id == kEndOfText ? "<|endoftext|>" : std::string(token_bytes(id));
  }
  bool is_special(TokenId id) const override { return id == kEndOfText; }
  std::optional<TokenId> bos() const override { return std::nullopt; }
  std::optional<TokenId> eos() const override { return kEndOfText; }
  bool adds_bos() const override { return false; }

 private:
  // Appends the longest token at the front of `text` and returns its length. Every single byte is a token.
  std::size_t encode_one(std::string_view text, std::vector<TokenId>& ids) const {
    std::uint32_t node = ByteTrie::kRoot;
    std::size_t length = 0;
    TokenId best = kEndOfText;
    for (std::size_t i = 0; i < text.size(); ++i) {
      node = trie_.step(node, static_cast<unsigned char>(text[i]));
      if (node == ByteTrie::kNoNode) break;
      if (trie_.value(node) < 0) continue;
      best = trie_.value(node);
      length = i + 1;
    }
    ids.push_back(best);
    return length;
  }

  // A token is certain once as many bytes as the longest token has are there.
  class Encoder final : public TokenEncoder {
   public:
    explicit Encoder(const WorldTokenizer& tokenizer) : tokenizer_(tokenizer) {}
    void feed(std::string_view bytes, std::vector<TokenId>& ids) override {
      pending_ += bytes;
      take(tokenizer_.longest_, ids);
    }
    void finish(std::vector<TokenId>& ids) override { take(1, ids); }

   private:
    void take(std::size_t least, std::vector<TokenId>& ids) {
      std::string_view left = pending_;
      while (left.size() >= least) left.remove_prefix(tokenizer_.encode_one(left, ids));
      pending_.erase(0, pending_.size() - left.size());
    }
    const WorldTokenizer& tokenizer_;
    std::string pending_;
  };

  std::vector<std::string> tokens_;  // by id; empty where there is none
  std::size_t longest_ = 1;
  ByteTrie trie_;
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> make_world_tokenizer(std::vector<std::string> tokens, const std::string& origin) {
  std::array<bool, 256> single{};
  for (std::size_t id = 1; id < tokens.size(); ++id) {
    if (tokens[id].size() == 1) single[static_cast<unsigned char>(tokens[id].front())] = true;
  }
  for (std::size_t byte = 0; byte < single.size(); ++byte) {
    if (!single[byte]) {
      return fail(ErrorCode::kCorrupt,
                  "[tokenizer] no token for the byte {:#04x}: some texts could not be spelled ({})", byte, origin);
    }
  }
  return std::make_unique<WorldTokenizer>(std::move(tokens));
}

Result<std::unique_ptr<Tokenizer>> parse_world_vocabulary(std::string_view text, const std::string& origin) {
  std::vector<std::string> tokens(1);
  for (std::size_t line_number = 1; !text.empty(); ++line_number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const auto wrong = [&](std::string_view what) {
      return fail(ErrorCode::kCorrupt, "[tokenizer] line {} {} ({})", line_number, what, origin);
    };
    const std::size_t first = line.find(' '), last = line.rfind(' ');
    if (first == std::string_view::npos || last <= first) return wrong("is not `id literal length`");
    const auto number = [](std::string_view digits) -> std::optional<std::size_t> {
      std::size_t value = 0;
      const auto [to, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
      return error == std::errc() && to == digits.data() + digits.size() ? std::optional(value) : std::nullopt;
    };
    const auto id = number(line.substr(0, first)), length = number(line.substr(last + 1));
    if (!id || *id < 1 || *id >= kMostIds) return wrong("has no id of 1 … 2^20");
    std::string_view literal = line.substr(first + 1, last - first - 1);
    const bool bytes = literal.starts_with('b');
    if (bytes) literal.remove_prefix(1);
    const bool quoted =
        literal.size() >= 2 && (literal.front() == '\'' || literal.front() == '"') && literal.back() == literal.front();
    const auto token = quoted ? unescape_python(literal.substr(1, literal.size() - 2), bytes) : std::nullopt;
    if (!token) return wrong("has no Python literal");
    if (token->empty() || token->size() != length) return wrong("has a token of another length than it says");
    if (tokens.size() <= *id) tokens.resize(*id + 1);
    if (!tokens[*id].empty()) return wrong("has an id that was there before");
    tokens[*id] = *token;
  }
  return make_world_tokenizer(std::move(tokens), origin);
}

}  // namespace krait::formats
