// Any bytes as a SentencePiece model: refused, or a tokenizer that encodes and decodes without harm.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "krait/formats/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace krait::formats;
  const auto tokenizer = parse_sentencepiece_model(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz");
  if (!tokenizer) return 0;
  const auto ids =
      (*tokenizer)->encode("The 12 na\u00EFve e\u0301 \u6F22\u5B57 \U0001F600   \n\tx+=1;\xFF\xE6\xBC <s>\u2581a");
  (*tokenizer)->decode(ids, true);
  return 0;
}
