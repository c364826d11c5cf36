// SentencePiece models (tokenizer.model), encoded by libsentencepiece. The library trusts its file, so what it would
// follow blindly is checked first: the shape of the protobuf (sentencepiece_model.proto) and the double array of the
// compiled character map (Darts-clone). Text is handed to it word by word where that cannot change the ids, which
// keeps streams short and lets the piece cache work.
#include <sentencepiece_processor.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <exception>

#include "krait/formats/tokenizer_pipeline.h"

namespace krait::formats {
namespace {

constexpr std::string_view kMarker = "\u2581";

// One field of a protobuf message.
struct WireField {
  std::uint64_t number = 0;
  int type = 0;
  std::uint64_t value = 0;  // varint or fixed
  std::string_view bytes;   // of type 2
};

class WireReader {
 public:
  WireReader(std::string_view bytes, const std::string& origin) : bytes_(bytes), origin_(origin) {}
  bool done() const { return bytes_.empty(); }

  Result<WireField> next() {
    WireField field;
    KRAIT_ASSIGN(const std::uint64_t key, varint());
    field.number = key >> 3;
    field.type = static_cast<int>(key & 7);
    switch (field.type) {
      case 0: {
        KRAIT_ASSIGN(field.value, varint());
        return field;
      }
      case 1:
      case 5: {
        const std::size_t size = field.type == 1 ? 8 : 4;
        KRAIT_ASSIGN(const std::string_view raw, take(size));
        std::memcpy(&field.value, raw.data(), size);
        return field;
      }
      case 2: {
        KRAIT_ASSIGN(const std::uint64_t size, varint());
        KRAIT_ASSIGN(field.bytes, take(size));
        return field;
      }
      default: return fail(ErrorCode::kCorrupt, "[sentencepiece] wire type {} ({})", field.type, origin_);
    }
  }

 private:
  Result<std::uint64_t> varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      KRAIT_ASSIGN(const std::string_view byte, take(1));
      const auto bits = static_cast<unsigned char>(byte[0]);
      value |= static_cast<std::uint64_t>(bits & 0x7F) << shift;
      if (bits < 0x80) return value;
    }
    return fail(ErrorCode::kCorrupt, "[sentencepiece] a number of more than 64 bits ({})", origin_);
  }

  Result<std::string_view> take(std::uint64_t size) {
    if (size > bytes_.size()) {
      return fail(ErrorCode::kCorrupt, "[sentencepiece] a field ends past the file: {} > {} ({})", size, bytes_.size(),
                  origin_);
    }
    const std::string_view taken = bytes_.substr(0, static_cast<std::size_t>(size));
    bytes_.remove_prefix(static_cast<std::size_t>(size));
    return taken;
  }

  std::string_view bytes_;
  const std::string& origin_;
};

struct ModelOptions {
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool whitespace_as_suffix = false;
  std::size_t pieces = 0;
};

std::uint32_t little_endian(std::string_view bytes, std::size_t at) {
  std::uint32_t value;
  std::memcpy(&value, bytes.data() + at, 4);
  if constexpr (std::endian::native == std::endian::big) value = __builtin_bswap32(value);
  return value;
}

// A character map is the size of a trie in bytes, the trie, and the strings its values point into, each ended by a
// zero. From unit i a walk goes to unit i ^ offset ^ byte for any byte, so that whole block must lie in the array. A
// unit that ends a string has its value in unit i ^ offset, and the library takes it from there whatever that is.
Result<void> check_character_map(std::string_view map, const std::string& origin) {
  if (map.empty()) return {};
  const std::uint64_t size = map.size() < 4 ? map.size() : little_endian(map, 0);
  if (map.size() < 4 || size > map.size() - 4 || size % 1024 != 0 || size == 0) {
    return fail(ErrorCode::kCorrupt, "[sentencepiece] character map: trie of {} bytes in {} ({})", size, map.size(),
                origin);
  }
  const std::string_view strings = map.substr(static_cast<std::size_t>(4 + size));
  const std::uint64_t units = size / 4;
  const auto unit_at = [&](std::uint64_t i) { return little_endian(map, static_cast<std::size_t>(4 + 4 * i)); };
  for (std::uint64_t i = 0; i < units; ++i) {
    constexpr std::uint32_t kLeaf = 0x80000000U, kEndsString = 0x100U, kFarOffset = 0x200U;
    const std::uint32_t unit = unit_at(i);
    // A value: no way leads on, and whoever points here is checked below. But a walk starts at unit 0 without a look.
    if ((unit & kLeaf) != 0 && i != 0) continue;
    const std::uint64_t next = i ^ (static_cast<std::uint64_t>(unit >> 10) << ((unit & kFarOffset) >> 6));
    if ((next | 0xFF) >= units) {
      return fail(ErrorCode::kCorrupt, "[sentencepiece] character map: unit {} leads to {} of {} ({})", i, next, units,
                  origin);
    }
    if ((unit & kEndsString) == 0) continue;
    const std::uint32_t value = unit_at(next) & ~kLeaf;
    if (value >= strings.size()) {
      return fail(ErrorCode::kCorrupt, "[sentencepiece] character map: string at {} of {} ({})", value, strings.size(),
                  origin);
    }
  }
  if (strings.empty() || strings.back() != '\0') {
    return fail(ErrorCode::kCorrupt, "[sentencepiece] character map: strings of {} bytes have no end ({})",
                strings.size(), origin);
  }
  return {};
}

Result<void> check_piece(std::string_view message, std::size_t index, const std::string& origin) {
  WireReader reader(message, origin);
  while (!reader.done()) {
    KRAIT_ASSIGN(const WireField field, reader.next());
    if (field.number == 2 && field.type == 5) {
      const auto score = std::bit_cast<float>(static_cast<std::uint32_t>(field.value));
      if (!std::isfinite(score)) {
        return fail(ErrorCode::kCorrupt, "[sentencepiece] score of piece {} is {} ({})", index, score, origin);
      }
    }
  }
  return {};
}

Result<ModelOptions> check_model(std::string_view bytes, const std::string& origin) {
  ModelOptions options;
  WireReader reader(bytes, origin);
  while (!reader.done()) {
    KRAIT_ASSIGN(const WireField field, reader.next());
    if (field.type != 2) continue;
    if (field.number == 1) {
      KRAIT_TRY(check_piece(field.bytes, options.pieces, origin));
      ++options.pieces;
      continue;
    }
    if (field.number != 2 && field.number != 3 && field.number != 5) continue;
    WireReader inner(field.bytes, origin);
    while (!inner.done()) {
      KRAIT_ASSIGN(const WireField option, inner.next());
      if (field.number == 2) {  // TrainerSpec
        if (option.number == 24 && option.type == 0) options.whitespace_as_suffix = option.value != 0;
        continue;
      }
      if (option.number == 2 && option.type == 2) KRAIT_TRY(check_character_map(option.bytes, origin));
      if (field.number == 3 && option.type == 0) {  // NormalizerSpec
        if (option.number == 3) options.add_dummy_prefix = option.value != 0;
        if (option.number == 4) options.remove_extra_whitespaces = option.value != 0;
        if (option.number == 5) options.escape_whitespaces = option.value != 0;
      }
    }
  }
  if (options.pieces == 0 || options.pieces > static_cast<std::size_t>(Vocabulary::kMaxId)) {
    return fail(ErrorCode::kCorrupt, "[sentencepiece] {} pieces ({})", options.pieces, origin);
  }
  return options;
}

class SentencePieceModel final : public TokenModel {
 public:
  SentencePieceModel(std::unique_ptr<sentencepiece::SentencePieceProcessor> processor, bool leading_space)
      : processor_(std::move(processor)), leading_space_(leading_space), marker_(processor_->PieceToId(kMarker)) {}

  std::string_view kind() const override { return "sentencepiece"; }

  void encode(std::string_view piece, std::vector<TokenId>& ids) const override {
    // The library puts a space in front of every text it is given; here the piece has its own.
    if (leading_space_ && piece.starts_with(' ')) {
      piece.remove_prefix(1);
      if (piece.empty()) {
        ids.push_back(marker_);
        return;
      }
    }
    std::vector<int> found;
    if (processor_->Encode(piece, &found).ok()) ids.insert(ids.end(), found.begin(), found.end());
  }

  bool separable_at(std::string_view marker) const override {
    const int id = processor_->PieceToId(marker);
    if (processor_->IsUnknown(id)) return false;
    for (int i = 0; i < processor_->GetPieceSize(); ++i) {
      if (!processor_->IsControl(i) && !marker_only_leads(processor_->IdToPiece(i), marker)) return false;
    }
    return true;
  }

 private:
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  bool leading_space_;
  TokenId marker_;
};

Result<std::unique_ptr<Tokenizer>> build(std::string_view bytes, const ModelOptions& options,
                                         const std::string& origin) {
  auto processor = std::make_unique<sentencepiece::SentencePieceProcessor>();
  const auto status = processor->LoadFromSerializedProto(bytes);
  if (!status.ok()) return fail(ErrorCode::kCorrupt, "[sentencepiece] {} ({})", status.ToString(), origin);

  TokenizerParts parts;
  parts.kind = "sentencepiece";
  std::vector<std::pair<std::string, std::int64_t>> tokens;
  for (int id = 0; id < processor->GetPieceSize(); ++id) {
    const std::string& piece = processor->IdToPiece(id);
    tokens.emplace_back(piece, id);
    if (processor->IsControl(id)) {
      AddedToken added;
      added.content = piece;
      added.id = id;
      added.special = true;
      parts.added.push_back(std::move(added));
    }
    if (processor->IsUnknown(id)) {
      parts.special.push_back(id);
      parts.decoder.steps.push_back({DecoderStep::kReplace, piece, " \u2047 "});
    }
  }
  KRAIT_ASSIGN(parts.vocabulary, Vocabulary::build(std::move(tokens), origin));
  if (processor->bos_id() >= 0) parts.bos = processor->bos_id();
  if (processor->eos_id() >= 0) parts.eos = processor->eos_id();

  // The library reads broken bytes as U+FFFD; done here, it leaves no seams in the text.
  parts.normalizer.push_back(make_repair_step());
  const bool leading_space = options.add_dummy_prefix && !options.remove_extra_whitespaces;
  if (leading_space) parts.prefix.when = TextPrefix::kAlways;
  if (options.add_dummy_prefix) parts.decoder.start.assign(1, ' ');
  parts.decoder.steps.push_back({DecoderStep::kReplace, std::string(kMarker), " "});
  parts.decoder.steps.push_back({DecoderStep::kByteFallback, {}, {}});

  auto model = std::make_unique<SentencePieceModel>(std::move(processor), leading_space);
  // A word alone is what it is within a text if the space before it survives: it is kept (no stripping), or stripped
  // and put back (stripping and a space in front).
  const bool keeps_space = options.add_dummy_prefix || !options.remove_extra_whitespaces;
  const bool by_words =
      options.escape_whitespaces && !options.whitespace_as_suffix && keeps_space && model->separable_at(kMarker);
  parts.stages.push_back(make_word_stage(by_words));
  parts.model = std::move(model);
  return make_pipeline_tokenizer(std::move(parts));
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> parse_sentencepiece_model(std::string_view bytes, const std::string& origin) {
  KRAIT_ASSIGN(const ModelOptions options, check_model(bytes, origin));
  try {
    return build(bytes, options, origin);
  } catch (const std::exception& error) {
    return fail(ErrorCode::kCorrupt, "[sentencepiece] {} ({})", error.what(), origin);
  }
}

}  // namespace krait::formats
