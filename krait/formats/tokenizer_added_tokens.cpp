// The trie behind AddedTokenMatcher.
#include "krait/formats/tokenizer_added_tokens.h"

#include <algorithm>

#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats {
namespace {

// The last character of text[from:to], or `before` when that is empty.
char32_t character_before(std::string_view text, std::size_t from, std::size_t to, char32_t before) {
  return to > from ? last_character(text.substr(from, to - from)) : before;
}

// Start of the white space that ends at `to`.
std::size_t white_space_start(std::string_view text, std::size_t from, std::size_t to) {
  while (to > from) {
    const char32_t code = character_before(text, from, to, 0);
    if (!is_white_space(code)) break;
    std::string spelled;
    append_utf8(code, spelled);
    to -= spelled.size();
  }
  return to;
}

std::size_t white_space_end(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    const Utf8Step step = read_utf8(text, at);
    if (step.status != Utf8Step::kValid || !is_white_space(step.code)) break;
    at += step.length;
  }
  return at;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(const std::vector<AddedToken>& tokens) {
  std::vector<std::pair<std::string, std::int32_t>> contents;
  for (const AddedToken& token : tokens) {
    if (token.content.empty()) continue;
    contents.emplace_back(token.content, static_cast<std::int32_t>(flags_.size()));
    flags_.push_back({token.id, token.single_word, token.lstrip, token.rstrip});
    starts_[static_cast<unsigned char>(token.content[0])] = true;
    any_lstrip_ = any_lstrip_ || token.lstrip;
  }
  trie_ = ByteTrie(std::move(contents));
}

AddedTokenMatcher::Scan AddedTokenMatcher::scan(std::string_view text, std::size_t from, bool closes,
                                                char32_t before) const {
  const auto undecided = [&](std::size_t at) {
    // White space just before an undecided place may yet be taken by a token that strips to its left.
    return Scan{any_lstrip_ ? white_space_start(text, from, at) : at, std::nullopt, at};
  };
  if (flags_.empty()) return {text.size(), std::nullopt, text.size()};
  for (std::size_t at = from; at < text.size(); ++at) {
    if (!starts_[static_cast<unsigned char>(text[at])]) continue;
    std::int32_t longest = -1;
    std::size_t end = at;
    std::uint32_t node = ByteTrie::kRoot;
    std::size_t i = at;
    for (; i < text.size(); ++i) {
      const std::uint32_t next = trie_.step(node, static_cast<unsigned char>(text[i]));
      if (next == ByteTrie::kNoNode) break;
      node = next;
      if (trie_.value(node) >= 0) {
        longest = trie_.value(node);
        end = i + 1;
      }
    }
    if (i == text.size() && !closes && !trie_.is_leaf(node)) return undecided(at);
    if (longest < 0) continue;
    const Flags& flags = flags_[static_cast<std::size_t>(longest)];
    if (flags.single_word) {
      bool word_after = false;
      if (end < text.size()) {
        const Utf8Step after = read_utf8(text, end);
        if (after.status == Utf8Step::kIncomplete && !closes) return undecided(at);
        word_after = after.status == Utf8Step::kValid && is_word_character(after.code);
      } else if (!closes) {
        return undecided(at);
      }
      // A token within a word is skipped as a whole, as the reference does.
      if (word_after || is_word_character(character_before(text, from, at, before))) {
        at = end - 1;
        continue;
      }
    }
    std::size_t resume = end;
    if (flags.rstrip) {
      resume = white_space_end(text, end);
      const bool cut_off = resume == text.size() || read_utf8(text, resume).status == Utf8Step::kIncomplete;
      if (cut_off && !closes) return undecided(at);
    }
    return {flags.lstrip ? white_space_start(text, from, at) : at, flags.id, resume};
  }
  if (closes) return {text.size(), std::nullopt, text.size()};
  return undecided(std::max(from, text.size() - incomplete_tail(text)));
}

}  // namespace krait::formats
