// krait logits: the logits after every token of a sequence, to compare with other engines.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "krait/cli/command.h"
#include "krait/cli/open_model.h"
#include "krait/cli/terminal.h"
#include "krait/runtime/session.h"

namespace krait::cli {
namespace {

struct LogitsOptions {
  ModelOptions model;
  std::vector<formats::TokenId> ids;
  std::int64_t chunk = 512;
  bool json = false;
};

// The shortest decimal that reads back as the same float; JSON has no infinities.
std::string number_text(float value) { return std::isfinite(value) ? fmt::format("{}", value) : "null"; }

void print_row(std::span<const float> logits) {
  fmt::print("[");
  for (std::size_t i = 0; i < logits.size(); ++i) fmt::print("{}{}", i == 0 ? "" : ",", number_text(logits[i]));
  fmt::print("]");
}

void print_best(formats::TokenId id, std::span<const float> logits) {
  constexpr std::size_t kBest = 5;
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto shown = std::min(kBest, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
                    [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  fmt::print("{:>8}  ", id);
  for (std::size_t i = 0; i < shown; ++i) fmt::print(" {:>7}:{:<10.4f}", order[i], logits[order[i]]);
  fmt::print("\n");
}

int logits(const LogitsOptions& options) {
  const auto engine = open_engine(options.model, options.chunk);
  runtime::Session session(*engine);
  if (options.json) {
    fmt::print("{{\"ids\":[{}],\"shape\":[{},{}],\"logits\":[", fmt::join(options.ids, ","), options.ids.size(),
               engine->model().info().vocabulary);
  } else {
    fmt::print("      id   largest logits after it (id:logit)\n");
  }
  session.feed_each(options.ids, [&](std::int64_t index, std::span<const float> row) {
    if (!options.json) return print_best(options.ids[static_cast<std::size_t>(index)], row);
    if (index > 0) fmt::print(",");
    print_row(row);
  });
  if (options.json) fmt::print("]}}\n");
  return 0;
}

}  // namespace

void add_logits(CLI::App& program, int& status) {
  auto options = std::make_shared<LogitsOptions>();
  CLI::App* command = program.add_subcommand("logits", "Print the logits after every token of a sequence");
  options->model.add_model(*command);
  options->model.add_engine(*command);
  command->add_option("--ids", options->ids, "Token ids, separated by commas")
      ->required()
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("ID,ID,…");
  command
      ->add_option("--chunk", options->chunk, "Feed the sequence in pieces of K tokens; the logits do not depend on it")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->type_name("K");
  command->add_flag("--json", options->json, "{\"ids\":[…],\"shape\":[T,V],\"logits\":[[…]…]}");
  command->footer(
      "Examples:\n  krait logits --ids 80,1360,738\n  krait logits -m model.gguf --ids 1,2,3 --chunk 1 --json");
  command->callback([options, &status] { status = logits(*options); });
}

}  // namespace krait::cli
