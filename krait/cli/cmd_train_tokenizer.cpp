// krait train-tokenizer: a vocabulary for texts of one's own.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "krait/cli/command.h"
#include "krait/cli/open_model.h"
#include "krait/cli/terminal.h"
#include "krait/formats/mapped_file.h"
#include "krait/formats/tokenizer.h"
#include "krait/train/objective.h"
#include "krait/train/tokenizer_training.h"

namespace krait::cli {
namespace {

namespace fs = std::filesystem;

struct TrainTokenizerOptions {
  std::vector<std::string> files;
  std::string out;
  train::TokenizerTrainingOptions training;
  bool objectives = false;
  bool json = false;
};

std::int64_t size_of(const std::string& file) {
  std::error_code unknown;
  const auto size = fs::file_size(file, unknown);
  return unknown ? 0 : static_cast<std::int64_t>(size);
}

// Tokens of the text with the new tokenizer, cut into stretches so that the bar moves. False when stopped.
bool count_tokens(const formats::Tokenizer& tokenizer, const std::vector<std::string>& files, std::int64_t bytes,
                  std::int64_t& tokens) {
  Progress bar("counting tokens", bytes, "bytes");
  std::int64_t done = 0;
  for (const std::string& file : files) {
    const InputFile input = open_input(file);
    const auto encoder = tokenizer.encoder();
    std::vector<formats::TokenId> ids;
    std::string stretch(std::size_t{1} << 20, '\0');
    for (std::size_t got; (got = std::fread(stretch.data(), 1, stretch.size(), input.get())) > 0;) {
      encoder->feed(std::string_view(stretch).substr(0, got), ids);
      tokens += static_cast<std::int64_t>(ids.size());
      ids.clear();
      bar.update(done += static_cast<std::int64_t>(got));
      if (InterruptGuard::interrupted()) return false;
    }
    encoder->finish(ids);
    tokens += static_cast<std::int64_t>(ids.size());
  }
  return true;
}

int train_tokenizer(TrainTokenizerOptions options) {
  const auto start = std::chrono::steady_clock::now();
  if (std::ranges::count(options.files, "-") > 0) {
    throw UserError("the texts are read twice, which standard input cannot be", "name files");
  }
  const fs::path out = options.out;
  const bool one_file = out.extension() == ".json";
  if (options.objectives) {
    auto& special = options.training.special_tokens;
    for (const std::string& token : train::objective_special_tokens()) {
      if (std::ranges::find(special, token) == special.end()) special.push_back(token);
    }
  }
  auto trainer = train::TokenizerTrainer::make(options.training);
  if (!trainer) throw UserError(trainer.error().message, "krait train-tokenizer --help lists what there is");

  const InterruptGuard guard;
  std::int64_t bytes = 0;
  for (const std::string& file : options.files) bytes += size_of(file);
  {
    Progress bar("reading", bytes, "bytes");
    for (const std::string& file : options.files) {
      const auto mapped = value_or_throw(formats::MappedFile::open(file));
      const std::string_view text(reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size());
      const bool whole = trainer->read(text, [&](std::int64_t done) {
        bar.update(done);
        return !InterruptGuard::interrupted();
      });
      if (!whole) return kInterruptedStatus;
    }
  }
  std::optional<Progress> bar;
  bar.emplace("merging", options.training.vocabulary, "tokens");
  const auto trained = trainer->train([&](std::int64_t done, std::int64_t) {
    bar->update(done);
    return !InterruptGuard::interrupted();
  });
  bar.reset();
  if (!trained && trained.error().code == ErrorCode::kCancelled) return kInterruptedStatus;
  if (!trained) throw CommandError(trained.error().message);
  const auto files = value_or_throw(train::tokenizer_files(*trained));
  const auto tokenizer = value_or_throw(formats::parse_tokenizer_json(files.tokenizer, options.out));
  std::int64_t tokens = 0;
  if (!count_tokens(*tokenizer, options.files, bytes, tokens)) return kInterruptedStatus;

  if (one_file) {
    write_file(out, files.tokenizer);
  } else {
    fs::create_directories(out);
    write_file(out / "tokenizer.json", files.tokenizer);
    write_file(out / "tokenizer_config.json", files.config);
  }
  const std::int64_t read = trainer->words().bytes();
  const double bytes_per_token = tokens == 0 ? 0 : static_cast<double>(read) / static_cast<double>(tokens);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const auto vocabulary = static_cast<std::int64_t>(trained->tokens.size());
  if (options.json) {
    fmt::print("{}\n", nlohmann::json({{"tokenizer", (one_file ? out : out / "tokenizer.json").string()},
                                       {"vocabulary", vocabulary},
                                       {"merges", trained->merges.size()},
                                       {"bytes", read},
                                       {"words", trainer->words().counts().size()},
                                       {"tokens", tokens},
                                       {"bytes_per_token", bytes_per_token},
                                       {"seconds", seconds}})
                           .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    fmt::print("{}: {} tokens; {} of text are {} tokens of {:.2f} bytes\n", out.string(), count_text(vocabulary),
               bytes_text(static_cast<std::uint64_t>(read)), count_text(tokens), bytes_per_token);
  }
  if (vocabulary < options.training.vocabulary) {
    fmt::print(stderr, "note: no pair stands {} times any more: {} tokens instead of {}\n",
               options.training.least_count, count_text(vocabulary), count_text(options.training.vocabulary));
  }
  return 0;
}

}  // namespace

void add_train_tokenizer(CLI::App& program, int& status) {
  auto options = std::make_shared<TrainTokenizerOptions>();
  CLI::App* command = program.add_subcommand("train-tokenizer", "Make a vocabulary of tokens from texts");
  command->add_option("files", options->files, "Texts to learn from")->required()->type_name("FILES");
  command
      ->add_option("-o,--output", options->out,
                   "Where to write: a .json file, or a folder for it and tokenizer_config.json")
      ->required()
      ->type_name("PATH");
  command->add_option("--vocabulary", options->training.vocabulary, "Tokens in all, special ones and 256 bytes too")
      ->type_name("COUNT")
      ->capture_default_str();
  command
      ->add_option("--special", options->training.special_tokens,
                   "Special tokens, ids from 0; the first ends a text. Texts are cut at them")
      ->type_name("TOKENS")
      ->capture_default_str();
  command->add_flag("--objectives", options->objectives,
                    "Also the special tokens that training objectives write: <|separator|>, [[mask]], [[mask_0]], …");
  command->add_option("--split", options->training.split, "How text is cut into words: gpt-2, qwen2, smollm, …")
      ->type_name("NAME")
      ->capture_default_str();
  command->add_option("--least-count", options->training.least_count, "A pair that is rarer becomes no token")
      ->type_name("COUNT")
      ->capture_default_str();
  command->add_flag("--json", options->json, "For machines");
  command->footer(
      "Examples:\n"
      "  krait train-tokenizer tales.txt -o tokenizer.json\n"
      "  krait train-tokenizer books/*.txt -o my-model --vocabulary 8192\n"
      "Byte-level BPE: every text can be written in it, and comes back byte for byte. The file is read by krait and "
      "by\n"
      "Hugging Face's libraries.\n"
      "  krait tokenize --tokenizer tokenizer.json --pieces \"Once upon a time\"");
  command->callback([options, &status] { status = train_tokenizer(*options); });
}

}  // namespace krait::cli
