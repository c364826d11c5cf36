// Pre-tokenizers: a chain of stages that cuts a text into the pieces a model encodes one by one.
// Every stage can work on a text that has not ended yet: it hands on only pieces that no further text can change, so
// that a stream and the whole text give the same pieces. Text is valid UTF-8 here; the pipeline sees to that.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "krait/formats/tokenizer_regex.h"

namespace krait::formats {

// Takes pieces. `closes`: the piece ends where `text` ends. Otherwise more of the same piece may follow.
// Returns the bytes taken, all of them if `closes`; the rest comes again, with what followed it.
class PieceReceiver {
 public:
  virtual ~PieceReceiver() = default;
  virtual std::size_t receive(std::string_view text, bool closes) = 0;
};

class PreTokenizerStage {
 public:
  virtual ~PreTokenizerStage() = default;
  virtual std::size_t cut(std::string_view text, bool closes, PieceReceiver& next) const = 0;
};

// What to do with the matches of a split pattern, in the words of tokenizer.json.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// Split at the matches of a pattern; with `invert` the gaps count as matches.
std::unique_ptr<PreTokenizerStage> make_split_stage(SplitRegex regex, SplitBehavior behavior, bool invert);

// Cuts before `marker` (such as U+2581, the visible space of SentencePiece), with spaces turned into it first if
// `translate`. kEvery: before each one. kRuns: before each run of them, which changes no ids for a model whose
// vocabulary never has it after another character. kNone: nowhere.
enum class MarkerCut { kEvery, kRuns, kNone };
std::unique_ptr<PreTokenizerStage> make_marker_stage(std::string marker, bool translate, MarkerCut cut);

// Cuts before a run of spaces that follows a letter, a digit or visible ASCII, if `cuts`; hands on the whole text when
// it has ended, if not. For models that see to white space themselves.
std::unique_ptr<PreTokenizerStage> make_word_stage(bool cuts);

// Spells bytes as the visible characters of byte-level BPE, for chains that go on cutting after it.
std::unique_ptr<PreTokenizerStage> make_byte_alphabet_stage();

// Puts `prefix` before a piece that does not start with it.
std::unique_ptr<PreTokenizerStage> make_prefix_stage(std::string prefix);

// Runs the stages in order and hands the pieces to `model`.
std::size_t run_stages(const std::vector<std::unique_ptr<PreTokenizerStage>>& stages, std::size_t first,
                       std::string_view text, bool closes, PieceReceiver& model);

// The patterns that files name without spelling them.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace krait::formats
