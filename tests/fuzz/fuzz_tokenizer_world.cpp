// Any bytes as a list of RWKV World tokens: refused, or a tokenizer that encodes and decodes without harm.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tests/fuzz/tokenizer_round_trip.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto tokenizer = krait::formats::parse_world_vocabulary(bytes, "fuzz"))
    krait::tests::use_tokenizer(**tokenizer);
  return 0;
}
