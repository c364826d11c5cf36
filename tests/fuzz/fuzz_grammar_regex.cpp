// Any bytes as a regular expression, plain and within a JSON string: refused, or texts can be written under it.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "krait/formats/grammar_regex.h"
#include "tests/fuzz/grammar_walk.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace krait::formats;
  const std::string_view pattern(reinterpret_cast<const char*>(data), size);
  if (const auto grammar = grammar_of_regex(pattern)) krait::tests::walk_grammar(*grammar);
  Grammar quoted;
  const std::int32_t root = quoted.add_rule("pattern", false);
  if (const auto body = add_regex(quoted, pattern, Spelling::kJsonString, RegexMatch::kSearch)) {
    quoted.set_body(root, *body);
    krait::tests::walk_grammar(quoted);
  }
  return 0;
}
