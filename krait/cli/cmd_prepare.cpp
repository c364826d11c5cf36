// krait prepare: texts into shards of tokens, for training.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "krait/cli/command.h"
#include "krait/cli/open_model.h"
#include "krait/cli/terminal.h"
#include "krait/train/data_preparation.h"

namespace krait::cli {
namespace {

namespace fs = std::filesystem;

struct PrepareOptions {
  std::vector<std::string> paths;
  std::string out;
  std::string tokenizer;
  train::PreparationOptions preparation;
  int threads = 0;
  bool json = false;
};

void print_json(const train::PreparationReport& report) {
  nlohmann::ordered_json out = {{"documents", report.documents},     {"kept", report.kept},
                                {"tokens", report.tokens},           {"bytes", report.text_bytes},
                                {"shards", nlohmann::json::array()}, {"dropped", nlohmann::json::object()}};
  for (const fs::path& shard : report.shards) out["shards"].push_back(shard.string());
  for (const train::QualityRule& rule : report.provenance.rules) out["dropped"][rule.name] = rule.dropped;
  fmt::print("{}\n", out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void print_text(const train::PreparationReport& report, const std::string& out) {
  fmt::print("{}: {} tokens of {} documents in {} shard{}; {} of text, {:.2f} bytes a token\n", out,
             count_text(report.tokens), count_text(report.kept), report.shards.size(),
             report.shards.size() == 1 ? "" : "s", bytes_text(report.text_bytes),
             static_cast<double>(report.text_bytes) / static_cast<double>(report.tokens));
  for (const train::QualityRule& rule : report.provenance.rules) {
    if (rule.dropped == 0) continue;
    fmt::print("  {} of {} documents dropped by {} = {}\n", count_text(rule.dropped), count_text(report.documents),
               rule.name, rule.setting);
  }
}

int prepare(PrepareOptions options) {
  const auto tokenizer = value_or_throw(formats::open_tokenizer(options.tokenizer));
  options.preparation.tokenizer_path = options.tokenizer;
  options.preparation.text.paths.assign(options.paths.begin(), options.paths.end());
  ThreadPool pool(options.threads);
  const InterruptGuard guard;
  std::optional<Progress> bar;
  const auto report = train::prepare_shards(options.preparation, *tokenizer, options.out, pool,
                                            [&](std::uint64_t done, std::uint64_t total) {
                                              if (!bar)
                                                bar.emplace("tokenizing", static_cast<std::int64_t>(total), "bytes");
                                              bar->update(static_cast<std::int64_t>(done));
                                              return !InterruptGuard::interrupted();
                                            });
  bar.reset();
  if (!report && report.error().code == ErrorCode::kCancelled) return kInterruptedStatus;
  if (!report) throw CommandError(report.error().message);
  if (options.json) {
    print_json(*report);
  } else {
    print_text(*report, options.out);
  }
  return 0;
}

}  // namespace

void add_prepare(CLI::App& program, int& status) {
  auto options = std::make_shared<PrepareOptions>();
  train::PreparationOptions& preparation = options->preparation;
  CLI::App* command = program.add_subcommand("prepare", "Turn texts into shards of tokens, for training");
  command->add_option("paths", options->paths, "Text files, .jsonl files, or folders of them")
      ->required()
      ->type_name("PATHS");
  command->add_option("-o,--output", options->out, "Folder of the shards, which may hold none yet")
      ->required()
      ->type_name("FOLDER");
  command->add_option("--tokenizer", options->tokenizer, "A tokenizer.json, or the folder or GGUF file of a model")
      ->required()
      ->type_name("PATH");
  command->add_option("--field", preparation.text.field, "Where a line of a .jsonl file has its text")
      ->type_name("NAME")
      ->capture_default_str();
  command
      ->add_option("--blank-lines", preparation.text.blank_lines,
                   "Text files: documents are parted by so many blank lines; 0: a file is a document")
      ->check(CLI::NonNegativeNumber)
      ->type_name("COUNT")
      ->capture_default_str();
  const auto rule = [&](const std::string& name, auto& value, const std::string& what) {
    command->add_option(name, value, what)
        ->check(CLI::NonNegativeNumber)
        ->group("What is left out")
        ->capture_default_str();
  };
  rule("--shortest", preparation.quality.shortest, "Documents of fewer bytes");
  command->add_option("--longest", preparation.quality.longest, "Documents of more bytes")
      ->check(CLI::NonNegativeNumber)
      ->group("What is left out");
  rule("--least-printable", preparation.quality.least_printable, "Less than this share of printable characters");
  rule("--most-symbols", preparation.quality.most_symbols, "More than this share of symbols");
  rule("--most-repeated-lines", preparation.quality.most_repeated_lines, "More than this share of repeated lines");
  rule("--likeness", preparation.likeness, "As alike as this to an earlier document; 0: none");
  command->add_option("--shard-tokens", preparation.shard_tokens, "A shard is closed when it has so many")
      ->check(CLI::PositiveNumber)
      ->type_name("COUNT")
      ->capture_default_str();
  command
      ->add_option("--end-token", preparation.end_token,
                   "What stands after each document; without: what the tokenizer names, else <|endoftext|>")
      ->type_name("TOKEN");
  command->add_option("--threads", options->threads, "Threads; 0: one a core")->capture_default_str();
  command->add_flag("--json", options->json, "For machines");
  command->footer(
      "Examples:\n"
      "  krait prepare books/ -o shards --tokenizer my-model\n"
      "  krait prepare web.jsonl -o shards --tokenizer my-model --field content --shortest 200\n"
      "What each rule left out stands in the shards, with the hashes of the texts (docs/training_data.md).");
  command->callback([options, &status] { status = prepare(*options); });
}

}  // namespace krait::cli
