// krait tokenize: text to token ids, and back.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "krait/cli/command.h"
#include "krait/cli/open_model.h"

namespace krait::cli {
namespace {

struct TokenizeOptions {
  ModelOptions model;
  TextInput input;
  bool decode = false;
  bool pieces = false;
  bool json = false;
};

// Ids separated by spaces, commas or line ends, in brackets or not.
std::vector<formats::TokenId> parse_ids(std::string text) {
  for (char& c : text) {
    if (c == ',' || c == '[' || c == ']') c = ' ';
  }
  std::istringstream words(text);
  std::vector<formats::TokenId> ids;
  for (std::string word; words >> word;) {
    std::size_t used = 0;
    formats::TokenId id = -1;
    try {
      id = std::stoi(word, &used);
    } catch (const std::exception&) {  // reported below
    }
    if (used != word.size() || id < 0)
      throw UserError(fmt::format("'{}' is not a token id", word), "ids are numbers from 0");
    ids.push_back(id);
  }
  return ids;
}

std::string dump(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

int tokenize(const TokenizeOptions& options) {
  const auto tokenizer = open_tokenizer_of(options.model);
  const std::string input = options.input.read();
  if (options.decode) {
    const auto ids = parse_ids(input);
    const std::string text = tokenizer->decode(ids, false);
    if (options.json) {
      fmt::print("{}\n", dump({{"ids", ids}, {"text", text}}));
    } else {
      std::fwrite(text.data(), 1, text.size(), stdout);
    }
    return 0;
  }
  const auto ids = tokenizer->encode(input);
  if (options.json) {
    nlohmann::json out = {{"ids", ids}, {"bytes", input.size()}};
    for (const auto id : ids) out["pieces"].push_back(tokenizer->decode({&id, 1}, false));
    fmt::print("{}\n", dump(out));
  } else if (options.pieces) {
    for (const auto id : ids) fmt::print("{:>8}  {}\n", id, dump(tokenizer->decode({&id, 1}, false)));
  } else {
    fmt::print("{}\n", fmt::join(ids, " "));
  }
  return 0;
}

}  // namespace

void add_tokenize(CLI::App& program, int& status) {
  auto options = std::make_shared<TokenizeOptions>();
  CLI::App* command = program.add_subcommand("tokenize", "Turn text into token ids, or back with --decode");
  options->model.add_model(*command);
  options->input.add(*command, "The text (or ids, with --decode)");
  command->add_flag("-d,--decode", options->decode, "Read ids, print text");
  command->add_flag("--pieces", options->pieces, "One token a line, with its text");
  command->add_flag("--json", options->json, "For machines");
  command->footer("Examples:\n  krait tokenize \"Once upon a time\"\n  krait tokenize --decode \"80 1360 738\"");
  command->callback([options, &status] { status = tokenize(*options); });
}

}  // namespace krait::cli
