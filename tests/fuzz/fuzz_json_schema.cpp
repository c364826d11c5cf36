// Any bytes as a JSON schema: refused, or texts can be written under it.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "krait/formats/json_schema.h"
#include "tests/fuzz/grammar_walk.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace krait::formats;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto grammar = grammar_of_json_schema(text, {.space = JsonSpace::kOne}))
    krait::tests::walk_grammar(*grammar);
  return 0;
}
