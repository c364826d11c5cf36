// The steps of normalisation. Unicode forms come from ICU (UAX #15); their safe places to cut a text are before
// characters that never combine with what precedes them (Normalizer2::hasBoundaryBefore).
#include "krait/formats/tokenizer_normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>

#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats {
namespace {

// Calls valid(text) for stretches of valid UTF-8 and copies the bytes between them.
template <class Valid>
void for_valid_stretches(std::string_view text, std::string& out, Valid valid) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = valid_utf8_end(text, at);
    if (end > at) valid(text.substr(at, end - at));
    at = end;
    if (at < text.size()) out.push_back(text[at++]);
  }
}

class UnicodeStep final : public NormalizerStep {
 public:
  UnicodeStep(const icu::Normalizer2& form, unsigned char first_changed) : form_(form), first_changed_(first_changed) {}

  std::size_t apply(std::string_view text, bool&, bool closes, std::string& out) const override {
    const std::size_t end = closes ? text.size() : last_boundary(text);
    const std::string_view part = text.substr(0, end);
    const bool plain =
        std::all_of(part.begin(), part.end(), [&](char c) { return static_cast<unsigned char>(c) < first_changed_; });
    if (plain) {
      out.append(part);
      return end;
    }
    for_valid_stretches(part, out, [&](std::string_view valid) {
      UErrorCode status = U_ZERO_ERROR;
      const std::size_t before = out.size();
      icu::StringByteSink<std::string> sink(&out);
      // ICU takes lengths of 32 bits.
      for (std::size_t at = 0; at < valid.size() && U_SUCCESS(status);) {
        constexpr std::size_t kStretch = 1 << 30;
        std::size_t size = valid.size() - at;
        if (size > kStretch) {
          const std::size_t boundary = last_boundary(valid.substr(at, kStretch));
          size = boundary > 0 ? boundary : kStretch;
        }
        form_.normalizeUTF8(0, icu::StringPiece(valid.data() + at, static_cast<int32_t>(size)), sink, nullptr, status);
        at += size;
      }
      if (U_FAILURE(status)) {
        // Out of memory is all that is left to fail; the text itself is the best that can be given.
        out.resize(before);
        out.append(valid);
      }
    });
    return end;
  }

 private:
  // The last place (not 0) where the text can be cut, or 0.
  std::size_t last_boundary(std::string_view text) const {
    std::size_t at = text.size() - incomplete_tail(text);
    while (at > 1) {
      --at;
      if ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) continue;
      const Utf8Step step = read_utf8(text, at);
      if (step.status != Utf8Step::kValid || form_.hasBoundaryBefore(static_cast<UChar32>(step.code))) return at;
    }
    return 0;
  }

  const icu::Normalizer2& form_;
  unsigned char first_changed_;  // text of smaller bytes only is in normal form
};

class RepairStep final : public NormalizerStep {
 public:
  std::size_t apply(std::string_view text, bool&, bool closes, std::string& out) const override {
    const std::size_t end = closes ? text.size() : text.size() - incomplete_tail(text);
    for (std::size_t at = 0; at < end;) {
      const std::size_t valid = valid_utf8_end(text.substr(0, end), at);
      out.append(text.substr(at, valid - at));
      at = valid;
      if (at == end) break;
      append_utf8(0xFFFD, out);
      ++at;
    }
    return end;
  }
};

class LowercaseStep final : public NormalizerStep {
 public:
  std::size_t apply(std::string_view text, bool&, bool closes, std::string& out) const override {
    const std::size_t end = closes ? text.size() : text.size() - incomplete_tail(text);
    for (std::size_t at = 0; at < end;) {
      const auto byte = static_cast<unsigned char>(text[at]);
      if (byte < 0x80) {
        out.push_back(byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte + 32) : text[at]);
        ++at;
        continue;
      }
      const Utf8Step step = read_utf8(text.substr(0, end), at);
      if (step.status != Utf8Step::kValid) {
        out.push_back(text[at++]);
        continue;
      }
      // Character by character, as the reference does: U+0130 is the only one that grows, and a final sigma is a
      // plain one.
      if (step.code == 0x130) {
        out.append("i\xCC\x87");
      } else {
        append_utf8(static_cast<char32_t>(u_tolower(static_cast<UChar32>(step.code))), out);
      }
      at += step.length;
    }
    return end;
  }
};

class PrependStep final : public NormalizerStep {
 public:
  explicit PrependStep(std::string prefix) : prefix_(std::move(prefix)) {}
  std::size_t apply(std::string_view text, bool& opens, bool, std::string& out) const override {
    if (opens && !text.empty()) {
      out.append(prefix_);
      opens = false;
    }
    out.append(text);
    return text.size();
  }

 private:
  std::string prefix_;
};

class StripStep final : public NormalizerStep {
 public:
  StripStep(bool left, bool right) : left_(left), right_(right) {}

  std::size_t apply(std::string_view text, bool& opens, bool closes, std::string& out) const override {
    std::size_t limit = closes ? text.size() : text.size() - incomplete_tail(text);
    std::size_t at = 0;
    if (left_ && opens) {
      while (at < limit) {
        const Utf8Step step = read_utf8(text, at);
        if (step.status != Utf8Step::kValid || !is_white_space(step.code)) break;
        at += step.length;
      }
      if (at == limit) return limit;
    }
    opens = false;
    std::size_t end = limit;
    while (right_ && end > at) {
      std::size_t start = end - 1;
      while (start > at && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
      const Utf8Step step = read_utf8(text.substr(0, end), start);
      if (step.status != Utf8Step::kValid || start + step.length != end || !is_white_space(step.code)) break;
      end = start;
    }
    out.append(text.substr(at, end - at));
    return closes ? text.size() : end;
  }

 private:
  bool left_, right_;
};

class ReplaceStep final : public NormalizerStep {
 public:
  ReplaceStep(std::string from, std::string to) : from_(std::move(from)), to_(std::move(to)) {}
  std::size_t apply(std::string_view text, bool&, bool closes, std::string& out) const override {
    std::size_t at = 0;
    for (std::size_t hit = text.find(from_); hit != std::string_view::npos; hit = text.find(from_, at)) {
      out.append(text.substr(at, hit - at));
      out.append(to_);
      at = hit + from_.size();
    }
    // A match of m bytes that is not complete yet starts within the last m - 1.
    const std::size_t held = closes ? 0 : std::min(from_.size() - 1, text.size() - at);
    const std::size_t end = text.size() - held;
    out.append(text.substr(at, end - at));
    return end;
  }

 private:
  std::string from_, to_;
};

class RegexReplaceStep final : public NormalizerStep {
 public:
  RegexReplaceStep(SplitRegex regex, std::string to) : regex_(std::move(regex)), to_(std::move(to)) {}

  std::size_t apply(std::string_view text, bool&, bool closes, std::string& out) const override {
    if (!closes && regex_.looks_behind()) return 0;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = valid_utf8_end(text, at);
      const std::string_view valid = text.substr(0, end);
      const bool ends = closes || (end < text.size() && text.size() - end != incomplete_tail(text));
      while (at < end) {
        const SplitRegex::Found found = regex_.find(valid, at, ends);
        out.append(valid.substr(at, found.begin - at));
        if (found.kind == SplitRegex::Found::kUndecided) return found.begin;
        if (found.kind == SplitRegex::Found::kMatch) out.append(to_);
        at = found.end;
      }
      if (at < text.size()) {
        if (!ends) return at;
        out.push_back(text[at++]);
      }
    }
    return text.size();
  }

 private:
  SplitRegex regex_;
  std::string to_;
};

}  // namespace

Result<std::unique_ptr<NormalizerStep>> make_unicode_step(UnicodeForm form) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* found = nullptr;
  unsigned char first_changed = 0x80;
  switch (form) {
    case UnicodeForm::kNfc:
      found = icu::Normalizer2::getNFCInstance(status);
      first_changed = 0xCC;  // everything before U+0300 is in NFC, whatever its neighbours below U+0300
      break;
    case UnicodeForm::kNfkc: found = icu::Normalizer2::getNFKCInstance(status); break;
    case UnicodeForm::kNfd: found = icu::Normalizer2::getNFDInstance(status); break;
    case UnicodeForm::kNfkd: found = icu::Normalizer2::getNFKDInstance(status); break;
  }
  if (U_FAILURE(status) || found == nullptr) {
    return fail(ErrorCode::kUnsupported, "[tokenizer] ICU has no data for a normal form: {}", u_errorName(status));
  }
  return std::make_unique<UnicodeStep>(*found, first_changed);
}

std::unique_ptr<NormalizerStep> make_repair_step() { return std::make_unique<RepairStep>(); }
std::unique_ptr<NormalizerStep> make_lowercase_step() { return std::make_unique<LowercaseStep>(); }
std::unique_ptr<NormalizerStep> make_prepend_step(std::string prefix) {
  return std::make_unique<PrependStep>(std::move(prefix));
}
std::unique_ptr<NormalizerStep> make_strip_step(bool left, bool right) {
  return std::make_unique<StripStep>(left, right);
}
std::unique_ptr<NormalizerStep> make_replace_step(std::string from, std::string to) {
  return std::make_unique<ReplaceStep>(std::move(from), std::move(to));
}
std::unique_ptr<NormalizerStep> make_regex_replace_step(SplitRegex regex, std::string to) {
  return std::make_unique<RegexReplaceStep>(std::move(regex), std::move(to));
}

std::string normalize(const NormalizerSteps& steps, std::string_view text) {
  std::string out;
  NormalizerStream(steps).feed(text, true, out);
  return out;
}

NormalizerStream::NormalizerStream(const NormalizerSteps& steps) : steps_(steps), stages_(steps.size()) {}

void NormalizerStream::feed(std::string_view text, bool closes, std::string& out) { feed_stage(0, text, closes, out); }

void NormalizerStream::feed_stage(std::size_t index, std::string_view text, bool closes, std::string& out) {
  if (index == stages_.size()) {
    out.append(text);
    return;
  }
  Stage& stage = stages_[index];
  const bool last = index + 1 == stages_.size();
  std::string between;
  std::string& target = last ? out : between;
  if (stage.held.empty() && closes) {
    steps_[index]->apply(text, stage.opens, true, target);
  } else {
    stage.held.append(text);
    if (!closes && stage.held.size() < stage.try_at) return;
    const std::size_t taken = steps_[index]->apply(stage.held, stage.opens, closes, target);
    stage.held.erase(0, taken);
    // Doubling keeps the work linear when one stretch stays undecided for long.
    stage.try_at = stage.held.size() < 16 ? 0 : 2 * stage.held.size();
  }
  if (!last) feed_stage(index + 1, between, closes, out);
  if (closes) stage = Stage{};
}

}  // namespace krait::formats
