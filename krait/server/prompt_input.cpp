#include "krait/server/prompt_input.h"

#include <fmt/format.h>

#include <limits>

namespace krait::server {
namespace {

std::vector<formats::TokenId> read_ids(JsonReader& reader, std::string_view name) {
  constexpr std::int64_t kLargestId = std::numeric_limits<formats::TokenId>::max();
  std::vector<formats::TokenId> ids;
  for (const std::int64_t id : reader.integers(name).value_or(std::vector<std::int64_t>())) {
    if (id < 0 || id > kLargestId) reader.complain(name, fmt::format("{} is no token id", id));
    ids.push_back(static_cast<formats::TokenId>(id));
  }
  return ids;
}

}  // namespace

std::vector<PromptInput> read_prompts(JsonReader& body, std::string_view name) {
  using Kind = JsonReader::Kind;
  std::vector<PromptInput> prompts;
  switch (body.kind(name)) {
    case Kind::absent: break;
    case Kind::text: prompts.emplace_back(body.text(name).value_or("")); break;
    case Kind::array: {
      const Kind first = body.first_kind(name);
      if (first == Kind::number) {
        prompts.emplace_back(read_ids(body, name));
      } else if (first == Kind::array) {
        for (JsonReader& element : body.arrays(name)) prompts.emplace_back(read_ids(element, "items"));
      } else if (first == Kind::text) {
        for (std::string& prompt : body.texts(name)) prompts.emplace_back(std::move(prompt));
      } else {
        body.complain(name, "must hold strings or token ids");
      }
      break;
    }
    default: body.complain(name, "must be a string, an array of strings, or token ids");
  }
  return prompts;
}

}  // namespace krait::server
