// The stages of pre-tokenization.
#include "krait/formats/tokenizer_pretokenizer.h"

#include "krait/formats/tokenizer_byte_alphabet.h"
#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats {
namespace {

// The text falls into units, matches and gaps in turn; pieces are joined from units as the behaviour says.
class SplitStage final : public PreTokenizerStage {
 public:
  SplitStage(SplitRegex regex, SplitBehavior behavior, bool invert)
      : regex_(std::move(regex)), behavior_(behavior), invert_(invert) {}

  std::size_t cut(std::string_view text, bool closes, PieceReceiver& next) const override {
    if (!closes && regex_.looks_behind()) return 0;
    if (behavior_ == SplitBehavior::kIsolated) return cut_isolated(text, closes, next);
    return cut_joined(text, closes, next);
  }

 private:
  std::size_t cut_isolated(std::string_view text, bool closes, PieceReceiver& next) const {
    std::size_t at = 0;
    while (at < text.size()) {
      const SplitRegex::Found found = regex_.find(text, at, closes);
      if (found.begin > at) {
        const bool gap_closes = closes || found.kind == SplitRegex::Found::kMatch;
        at += next.receive(text.substr(at, found.begin - at), gap_closes);
        if (!gap_closes) return at;
      }
      if (found.kind == SplitRegex::Found::kUndecided) return at;
      if (found.kind == SplitRegex::Found::kMatch) next.receive(text.substr(at, found.end - at), true);
      at = found.end;
    }
    return at;
  }

  // Whether a unit continues the piece that the unit before it belongs to.
  bool joins(bool previous_split, bool split) const {
    switch (behavior_) {
      case SplitBehavior::kMergedWithPrevious: return split && !previous_split;
      case SplitBehavior::kMergedWithNext: return previous_split && !split;
      case SplitBehavior::kContiguous: return split == previous_split;
      case SplitBehavior::kRemoved:
      case SplitBehavior::kIsolated: break;
    }
    return false;
  }

  std::size_t cut_joined(std::string_view text, bool closes, PieceReceiver& next) const {
    std::size_t piece = 0;  // start of the piece being joined; its last unit ends at `end`
    std::size_t end = 0;
    bool previous_split = false;
    const auto emit = [&] {
      if (end > piece && !(behavior_ == SplitBehavior::kRemoved && previous_split)) {
        next.receive(text.substr(piece, end - piece), true);
      }
      piece = end;
    };
    const auto unit = [&](std::size_t to, bool split) {
      if (!joins(previous_split, split)) emit();
      end = to;
      previous_split = split;
    };
    while (end < text.size()) {
      const std::size_t at = end;
      const SplitRegex::Found found = regex_.find(text, at, closes);
      if (!closes && found.kind != SplitRegex::Found::kMatch) {
        // The last gap may go on. Where it is the start of a piece that is kept, its beginning is certain.
        if (found.begin > at && !joins(previous_split, invert_)) {
          emit();
          if (!(behavior_ == SplitBehavior::kRemoved && invert_)) {
            piece += next.receive(text.substr(at, found.begin - at), false);
          }
        }
        return piece;
      }
      if (found.begin > at) unit(found.begin, invert_);
      if (found.kind == SplitRegex::Found::kMatch) unit(found.end, !invert_);
    }
    if (!closes) return piece;
    emit();
    return text.size();
  }

  SplitRegex regex_;
  SplitBehavior behavior_;
  bool invert_;
};

class MarkerStage final : public PreTokenizerStage {
 public:
  MarkerStage(std::string marker, bool translate, MarkerCut cut)
      : marker_(std::move(marker)), translate_(translate), cut_(cut) {}

  std::size_t cut(std::string_view text, bool closes, PieceReceiver& next) const override {
    if (cut_ == MarkerCut::kNone) {
      if (!closes) return 0;
      hand_on(text, next);
      return text.size();
    }
    std::size_t piece = 0;
    bool previous_marker = true;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t length = marker_length(text, at);
      // Without the end of the text, the first bytes of a marker may stand here.
      if (!closes && length == 0 && text.size() - at < marker_.size()) break;
      if (length > 0 && at > piece && (cut_ == MarkerCut::kEvery || !previous_marker)) {
        hand_on(text.substr(piece, at - piece), next);
        piece = at;
      }
      previous_marker = length > 0;
      at += length > 0 ? length : 1;
    }
    if (!closes) return piece;
    if (piece < text.size()) hand_on(text.substr(piece), next);
    return text.size();
  }

 private:
  std::size_t marker_length(std::string_view text, std::size_t at) const {
    if (translate_ && text[at] == ' ') return 1;
    return text.substr(at, marker_.size()) == marker_ ? marker_.size() : 0;
  }

  void hand_on(std::string_view piece, PieceReceiver& next) const {
    if (!translate_ || piece.find(' ') == std::string_view::npos) {
      next.receive(piece, true);
      return;
    }
    std::string translated;
    for (const char c : piece) {
      if (c == ' ') {
        translated += marker_;
      } else {
        translated += c;
      }
    }
    next.receive(translated, true);
  }

  std::string marker_;
  bool translate_;
  MarkerCut cut_;
};

class WordStage final : public PreTokenizerStage {
 public:
  explicit WordStage(bool cuts) : cuts_(cuts) {}

  std::size_t cut(std::string_view text, bool closes, PieceReceiver& next) const override {
    std::size_t piece = 0;
    for (std::size_t at = text.find(' '); cuts_ && at != std::string_view::npos; at = text.find(' ', at + 1)) {
      if (at == piece || !is_visible(last_character(text.substr(piece, at - piece)))) continue;
      next.receive(text.substr(piece, at - piece), true);
      piece = at;
    }
    if (!closes) return piece;
    if (piece < text.size()) next.receive(text.substr(piece), true);
    return text.size();
  }

 private:
  // Nothing that a normaliser could turn into a space or drop.
  static bool is_visible(char32_t code) { return (code > 0x20 && code < 0x7F) || is_letter_or_digit(code); }

  bool cuts_;
};

class ByteAlphabetStage final : public PreTokenizerStage {
 public:
  std::size_t cut(std::string_view text, bool closes, PieceReceiver& next) const override {
    if (!closes) return 0;
    next.receive(spell_bytes(text), true);
    return text.size();
  }
};

class PrefixStage final : public PreTokenizerStage {
 public:
  explicit PrefixStage(std::string prefix) : prefix_(std::move(prefix)) {}
  std::size_t cut(std::string_view text, bool closes, PieceReceiver& next) const override {
    if (!closes) return 0;
    if (text.starts_with(prefix_)) {
      next.receive(text, true);
    } else {
      next.receive(prefix_ + std::string(text), true);
    }
    return text.size();
  }

 private:
  std::string prefix_;
};

class StageReceiver final : public PieceReceiver {
 public:
  StageReceiver(const std::vector<std::unique_ptr<PreTokenizerStage>>& stages, std::size_t first, PieceReceiver& model)
      : stages_(stages), first_(first), model_(model) {}
  std::size_t receive(std::string_view text, bool closes) override {
    return run_stages(stages_, first_, text, closes, model_);
  }

 private:
  const std::vector<std::unique_ptr<PreTokenizerStage>>& stages_;
  std::size_t first_;
  PieceReceiver& model_;
};

}  // namespace

std::unique_ptr<PreTokenizerStage> make_split_stage(SplitRegex regex, SplitBehavior behavior, bool invert) {
  return std::make_unique<SplitStage>(std::move(regex), behavior, invert);
}

std::unique_ptr<PreTokenizerStage> make_marker_stage(std::string marker, bool translate, MarkerCut cut) {
  return std::make_unique<MarkerStage>(std::move(marker), translate, cut);
}

std::unique_ptr<PreTokenizerStage> make_word_stage(bool cuts) { return std::make_unique<WordStage>(cuts); }

std::unique_ptr<PreTokenizerStage> make_byte_alphabet_stage() { return std::make_unique<ByteAlphabetStage>(); }

std::unique_ptr<PreTokenizerStage> make_prefix_stage(std::string prefix) {
  return std::make_unique<PrefixStage>(std::move(prefix));
}

std::size_t run_stages(const std::vector<std::unique_ptr<PreTokenizerStage>>& stages, std::size_t first,
                       std::string_view text, bool closes, PieceReceiver& model) {
  if (text.empty()) return 0;
  if (first == stages.size()) return model.receive(text, closes);
  if (first + 1 == stages.size()) return stages[first]->cut(text, closes, model);
  StageReceiver next(stages, first + 1, model);
  return stages[first]->cut(text, closes, next);
}

}  // namespace krait::formats
