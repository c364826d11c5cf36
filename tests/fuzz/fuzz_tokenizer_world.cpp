// Any bytes as a list of RWKV World tokens: refused, or a tokenizer that encodes and decodes without harm.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "krait/formats/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace krait::formats;
  const auto tokenizer = parse_world_vocabulary(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz");
  if (!tokenizer) return 0;
  constexpr std::string_view kText =
      "The 12 na\u00EFve e\u0301 \u6F22\u5B57 \U0001F600   \n\tx+=1;\xFF\xE6\xBC <|end|>\u2581a";
  const auto ids = (*tokenizer)->encode(kText);
  for (const TokenId id : ids) {
    if (id < 0 || id >= (*tokenizer)->size()) std::abort();
  }
  (*tokenizer)->decode(ids, true);
  std::vector<TokenId> streamed;
  const auto encoder = (*tokenizer)->encoder();
  for (const char c : kText) encoder->feed(std::string_view(&c, 1), streamed);
  encoder->finish(streamed);
  if (streamed != ids) std::abort();
  return 0;
}
