// Text and tokens of the C interface.
#include <string>

#include "krait/api/error_text.h"
#include "krait/api/shared_model.h"

using namespace krait;
using namespace krait::api;

struct krait_decoder {
  std::shared_ptr<SharedModel> model;
  formats::TokenDecoder decoder;
  std::string piece;

  void show(std::string next, const char** text, size_t* bytes) {
    piece = std::move(next);
    *text = piece.c_str();
    *bytes = piece.size();
  }
};

krait_status krait_tokenize(const krait_model* model, const char* text, size_t bytes, int32_t at_start, int32_t** ids,
                            size_t* count) {
  clear(ids, count);
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{model, "model"}, {text, "text", bytes == 0}, {ids, "ids"}, {count, "count"}}));
    KRAIT_ASSIGN(const formats::Tokenizer* tokenizer, model->shared->need_tokenizer());
    const auto found = runtime::encode_prompt(model->shared->info(), *tokenizer, {text, bytes}, at_start != 0);
    const std::span<const std::byte> numbers = std::as_bytes(std::span(found));
    // malloc's alignment is enough for the numbers.
    *ids = reinterpret_cast<int32_t*>(give({reinterpret_cast<const char*>(numbers.data()), numbers.size()}).release());
    *count = found.size();
    return {};
  });
}

krait_status krait_detokenize(const krait_model* model, const int32_t* ids, size_t count, char** text, size_t* bytes) {
  clear(text, bytes);
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{model, "model"}, {ids, "ids", count == 0}, {text, "text"}, {bytes, "bytes"}}));
    KRAIT_ASSIGN(const formats::Tokenizer* tokenizer, model->shared->need_tokenizer());
    const std::string decoded = tokenizer->decode({ids, count}, true);
    *text = give(decoded).release();
    *bytes = decoded.size();
    return {};
  });
}

krait_status krait_decoder_create(const krait_model* model, krait_decoder** decoder) {
  clear(decoder);
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{model, "model"}, {decoder, "decoder"}}));
    KRAIT_ASSIGN(const formats::Tokenizer* tokenizer, model->shared->need_tokenizer());
    *decoder = new krait_decoder{model->shared, formats::TokenDecoder(*tokenizer), {}};
    return {};
  });
}

void krait_decoder_free(krait_decoder* decoder) { delete decoder; }

krait_status krait_decoder_feed(krait_decoder* decoder, int32_t id, const char** text, size_t* bytes) {
  clear(text, bytes);
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{decoder, "decoder"}, {text, "text"}, {bytes, "bytes"}}));
    decoder->show(decoder->decoder.feed(id), text, bytes);
    return {};
  });
}

krait_status krait_decoder_finish(krait_decoder* decoder, const char** text, size_t* bytes) {
  clear(text, bytes);
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{decoder, "decoder"}, {text, "text"}, {bytes, "bytes"}}));
    decoder->show(decoder->decoder.finish(), text, bytes);
    return {};
  });
}
