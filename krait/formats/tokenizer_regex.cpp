// PCRE2 behind SplitRegex. Partial matching (PCRE2_PARTIAL_HARD) reports any match that touched the end of the text,
// which is exactly what a stream must hold back.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "krait/formats/tokenizer_regex.h"

#include <pcre2.h>

#include "krait/core/check.h"

namespace krait::formats {
namespace {

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeMatch {
  void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
};

// Only the outermost pair is wanted, so one block serves every pattern of a thread.
pcre2_match_data* thread_match_data() {
  thread_local const std::unique_ptr<pcre2_match_data, FreeMatch> data(pcre2_match_data_create(1, nullptr));
  KRAIT_CHECK(data != nullptr, "no memory for a match block");
  return data.get();
}

// PCRE2_INFO_MAXLOOKBEHIND counts lookbehind, \b and \A but not ^, $ or \K; a circumflex that does not open a
// character class is taken as an anchor, which errs on the side of caution.
bool anchors(std::string_view pattern) {
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\') {
      ++i;
      if (i < pattern.size() && (pattern[i] == 'G' || pattern[i] == 'K')) return true;
    } else if (pattern[i] == '^' && (i == 0 || pattern[i - 1] != '[')) {
      return true;
    }
  }
  return false;
}

}  // namespace

struct SplitRegex::Compiled {
  std::unique_ptr<pcre2_code, FreeCode> code;
  bool jit = false;
  bool looks_behind = false;
};

SplitRegex::SplitRegex(std::unique_ptr<Compiled> compiled) : compiled_(std::move(compiled)) {}
SplitRegex::SplitRegex(SplitRegex&&) noexcept = default;
SplitRegex& SplitRegex::operator=(SplitRegex&&) noexcept = default;
SplitRegex::~SplitRegex() = default;

Result<SplitRegex> SplitRegex::compile(std::string_view pattern, const std::string& origin) {
  constexpr std::size_t kLongestPattern = 1 << 16;
  if (pattern.size() > kLongestPattern) {
    return fail(ErrorCode::kUnsupported, "[tokenizer] split pattern of {} bytes ({})", pattern.size(), origin);
  }
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto compiled = std::make_unique<Compiled>();
  // UCP makes \s, \d and \w speak of Unicode, as they do in the tokenizers' own engines.
  compiled->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr));
  if (compiled->code == nullptr) {
    PCRE2_UCHAR message[160] = {};
    pcre2_get_error_message(error, message, sizeof message);
    return fail(ErrorCode::kUnsupported, "[tokenizer] split pattern '{}': {} at byte {} ({})", pattern,
                reinterpret_cast<const char*>(message), offset, origin);
  }
  std::uint32_t match_empty = 0;
  std::uint32_t look_behind = 0;
  pcre2_pattern_info(compiled->code.get(), PCRE2_INFO_MATCHEMPTY, &match_empty);
  pcre2_pattern_info(compiled->code.get(), PCRE2_INFO_MAXLOOKBEHIND, &look_behind);
  if (match_empty != 0) {
    return fail(ErrorCode::kUnsupported, "[tokenizer] split pattern '{}' can match nothing at all ({})", pattern,
                origin);
  }
  compiled->looks_behind = look_behind > 0 || anchors(pattern);
  compiled->jit = pcre2_jit_compile(compiled->code.get(), PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0;
  return SplitRegex(std::move(compiled));
}

std::string SplitRegex::quote(std::string_view literal) {
  std::string pattern;
  for (const char c : literal) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = byte >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (byte == 0) {
      pattern += "\\x00";
      continue;
    }
    if (!plain) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

SplitRegex::Found SplitRegex::find(std::string_view text, std::size_t from, bool closes) const {
  pcre2_match_data* match = thread_match_data();
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const std::uint32_t partial = closes ? 0 : PCRE2_PARTIAL_HARD;
  int found = PCRE2_ERROR_JIT_STACKLIMIT;
  if (compiled_->jit) {
    found = pcre2_jit_match(compiled_->code.get(), subject, text.size(), from, partial, match, nullptr);
  }
  if (!compiled_->jit || found == PCRE2_ERROR_JIT_STACKLIMIT) {
    // The interpreter keeps its backtracking points on the heap.
    found = pcre2_match(compiled_->code.get(), subject, text.size(), from, partial | PCRE2_NO_JIT | PCRE2_NO_UTF_CHECK,
                        match, nullptr);
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match);
  if (found >= 0) return {Found::kMatch, bounds[0], bounds[1]};
  if (found == PCRE2_ERROR_PARTIAL) return {Found::kUndecided, bounds[0], text.size()};
  return {Found::kNone, text.size(), text.size()};
}

bool SplitRegex::looks_behind() const { return compiled_->looks_behind; }

}  // namespace krait::formats
