// krait run: continue a text.
#include <fmt/format.h>

#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "krait/cli/command.h"
#include "krait/cli/terminal.h"
#include "krait/cli/text_writer.h"

namespace krait::cli {
namespace {

struct RunOptions {
  WriterOptions writer;
  TextInput prompt;
  bool echo = false;
  bool json = false;
};

void print_closing_line(const TextWriter& writer) {
  const Style style = Style::for_stream(stderr);
  std::string cache;
  if (writer.lookup()) cache = fmt::format(" · cache: {}", runtime::to_string(*writer.lookup()));
  fmt::print(stderr,
             "{}prompt {} tokens, {:.1f} tokens/s · text {} tokens, {:.1f} tokens/s · peak memory {} · seed {}{}{}\n",
             style.dim, writer.prefill().tokens, writer.prefill().per_second(), writer.decode().tokens,
             writer.decode().per_second(), bytes_text(peak_memory_bytes()), writer.seed(), cache, style.reset);
}

// Any of these says that draws shall not go on as a state left them.
constexpr const char* kSamplerOptions[] = {"--seed",
                                           "--temp",
                                           "--greedy",
                                           "--top-k",
                                           "--top-p",
                                           "--min-p",
                                           "--repetition-penalty",
                                           "--presence-penalty",
                                           "--frequency-penalty",
                                           "--logit-bias"};

bool print_piece(std::string_view piece) {
  std::fwrite(piece.data(), 1, piece.size(), stdout);
  std::fflush(stdout);
  return !InterruptGuard::interrupted() && std::ferror(stdout) == 0;
}

int run_once(TextWriter& writer, const RunOptions& options) {
  // A state that is gone on from needs no text.
  const std::string prompt = options.writer.state.empty() || options.prompt.given() ? options.prompt.read() : "";
  const InterruptGuard guard;
  writer.read(prompt);
  if (InterruptGuard::interrupted()) {
    writer.keep();
    return kInterruptedStatus;
  }

  if (options.json) {
    std::string text;
    const auto generated = writer.write(false, [&](std::string_view piece) {
      text += piece;
      return !InterruptGuard::interrupted();
    });
    writer.keep();
    nlohmann::json answer = {
        {"text", text},
        {"ids", generated.tokens},
        {"finish_reason", runtime::to_string(generated.reason)},
        {"prompt_tokens", writer.prefill().tokens},
        {"prefill_tokens_per_s", writer.prefill().per_second()},
        {"decode_tokens_per_s", writer.decode().per_second()},
        {"peak_rss_bytes", peak_memory_bytes()},
        {"seed", writer.seed()},
    };
    if (const auto& lookup = writer.lookup()) {
      answer["cache"] = {{"lookup", runtime::to_string(*lookup)},
                         {"reused_tokens", writer.reused()},
                         {"computed_tokens", writer.prefill().tokens}};
    }
    fmt::print("{}\n", answer.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return generated.reason == runtime::FinishReason::kCancelled ? kInterruptedStatus : 0;
  }

  const Style style = Style::for_stream(stdout);
  if (options.echo || is_terminal(stdout)) fmt::print("{}{}{}", style.bold, prompt, style.reset);
  const auto generated = writer.write(false, print_piece);
  fmt::print("\n");
  std::fflush(stdout);
  writer.keep();
  print_closing_line(writer);
  return generated.reason == runtime::FinishReason::kCancelled ? kInterruptedStatus : 0;
}

// One text that grows in turns: what is typed, then what the model adds. The state carries everything so far.
int run_interactive(TextWriter& writer) {
  const Style style = Style::for_stream(stderr);
  fmt::print(stderr,
             "{}Type the beginning of a text; the model goes on. /reset forgets, Ctrl-C stops it, Ctrl-D ends.\n"
             "A state takes {}; there is memory for {} of them.{}\n",
             style.dim, bytes_text(writer.engine().states().bytes_per_state()),
             count_text(static_cast<std::int64_t>(writer.engine().states().capacity())), style.reset);
  const InterruptGuard guard;
  std::string line;
  for (;;) {
    InterruptGuard::clear();
    fmt::print(stderr, "{}>{} ", style.cyan, style.reset);
    if (!std::getline(std::cin, line)) {
      if (!InterruptGuard::interrupted()) break;
      std::cin.clear();
      std::clearerr(stdin);
      fmt::print(stderr, "\n");
      continue;
    }
    if (line == "/reset") {
      writer.forget();
      fmt::print(stderr, "{}forgotten{}\n", style.dim, style.reset);
      continue;
    }
    writer.read(line);
    writer.write(true, print_piece);
    fmt::print("\n");
    std::fflush(stdout);
  }
  fmt::print(stderr, "\n");
  writer.keep();
  print_closing_line(writer);
  return 0;
}

}  // namespace

void add_run(CLI::App& program, int& status) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* command = program.add_subcommand("run", "Continue a text: streams it on stdout");
  options->writer.model.add_model(*command);
  options->writer.model.add_tokenizer(*command);
  options->prompt.add(*command, "The text to continue");
  options->writer.model.add_engine(*command);
  command->add_option("-n,--max-new-tokens", options->writer.max_tokens, "Most tokens to write")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->type_name("N");
  command->add_option("-s,--seed", options->writer.seed, "Seed of the draws (default: a random one, shown at the end)")
      ->type_name("S");
  runtime::SamplerOptions& sampler = options->writer.sampler;
  command->add_option("--temp,--temperature", sampler.temperature, "0 is greedy, higher is wilder")
      ->capture_default_str()
      ->type_name("X");
  command->add_flag("--greedy", options->writer.greedy, "Always the most likely token (the same as --temp 0)");
  command->add_option("--top-k", sampler.top_k, "Keep the K most likely tokens; 0: all")
      ->capture_default_str()
      ->type_name("K");
  command->add_option("--top-p", sampler.top_p, "Keep the most likely tokens up to this share; 1: all")
      ->capture_default_str()
      ->type_name("P");
  command->add_option("--min-p", sampler.min_p, "Keep tokens at least this share of the most likely one; 0: all")
      ->capture_default_str()
      ->type_name("P");
  command->add_option("--repetition-penalty", sampler.repetition_penalty, "Above 1 discourages tokens seen before")
      ->capture_default_str()
      ->type_name("X");
  command->add_option("--presence-penalty", sampler.presence_penalty, "Subtracted from tokens written before")
      ->capture_default_str()
      ->type_name("X");
  command->add_option("--frequency-penalty", sampler.frequency_penalty, "Subtracted for every time a token was written")
      ->capture_default_str()
      ->type_name("X");
  command
      ->add_option("--logit-bias", options->writer.logit_bias, "Added to a token's logit; may be given several times")
      ->allow_extra_args(false)
      ->type_name("ID:BIAS");
  command->add_option("--stop", options->writer.stop, "End at this string; may be given several times")
      ->allow_extra_args(false)
      ->type_name("TEXT");
  command->add_flag("--ignore-eos", options->writer.ignore_eos, "Do not end at the model's end-of-text token");
  command
      ->add_option("--state", options->writer.state, "Go on from a state file (its sampler too, unless one is given)")
      ->type_name("FILE.state");
  command->add_option("--save", options->writer.save, "Save the state at the end of the text")->type_name("FILE.state");
  command
      ->add_option("--cache", options->writer.cache,
                   "Keep states in this folder: a prompt that begins like an earlier one is read from there on")
      ->type_name("FOLDER");
  command->add_flag("--echo", options->echo, "Print the prompt too (always done on a terminal)");
  command->add_flag("--json", options->json, "One JSON object instead of streamed text");
  command->footer(
      "Examples:\n"
      "  krait run \"Once upon a time\"\n"
      "  krait run -m mamba2-130m -n 100 --seed 7 --temp 0.7 \"The sea\"\n"
      "  krait run --greedy -f chapter.txt > continuation.txt\n"
      "  krait run --state book.state \"The moral of it is\"\n"
      "  krait run --cache ~/.cache/krait -f long_prompt.txt\n"
      "  krait run                       an interactive session, on a terminal");
  command->callback([options, command, &status] {
    for (const char* name : kSamplerOptions) options->writer.sampler_given |= command->count(name) > 0;
    TextWriter writer(options->writer);
    const bool interactive = !options->prompt.given() && !options->json && is_terminal(stdin);
    status = interactive ? run_interactive(writer) : run_once(writer, *options);
  });
}

}  // namespace krait::cli
