// Any bytes as a safetensors file: an error or tensors that can all be read.
#include "krait/formats/safetensors.h"
#include "tests/fuzz/read_everything.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto source = krait::formats::parse_safetensors({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
  if (source) krait::tests::read_everything(**source);
  return 0;
}
