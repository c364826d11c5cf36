// Any bytes as a chat template: refused, or rendered over a conversation with every kind of value, in bounded time. A
// byte 0 in the input parts the template from a context of its own.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "krait/formats/chat_template.h"

namespace {

constexpr std::string_view kContext = R"({
  "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "Ünd"}]},
    {"role": "assistant", "content": null, "tool_calls": [{"id": "abcdef123", "type": "function",
      "function": {"name": "f", "arguments": {"a": [1, 2.5, true, null, {}], "b": "<>"}}}]},
    {"role": "tool", "content": "{}", "tool_call_id": "abcdef123"}, {"role": "user", "content": "a b\n c  "}],
  "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
  "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>"})";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace krait::formats;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::size_t cut = bytes.find('\0');
  auto context = ChatContext::parse(cut == std::string_view::npos ? kContext : bytes.substr(cut + 1));
  if (!context) return 0;
  context->unpack_tool_arguments();
  context->join_text_parts();
  const auto parsed = ChatTemplate::parse(bytes.substr(0, cut), "fuzz");
  if (!parsed) return 0;
  const ChatTemplateLimits limits{.steps = 50'000, .output_bytes = std::size_t{1} << 16};
  const auto text = parsed->render(*context, limits, 1'700'000'000);
  if (text && text->size() > limits.output_bytes) std::abort();
  return 0;
}
