// krait run: continue a text.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>

#include "krait/cli/command.h"
#include "krait/cli/open_model.h"
#include "krait/cli/terminal.h"
#include "krait/runtime/generate.h"
#include "krait/runtime/prompt.h"
#include "krait/runtime/session.h"

namespace krait::cli {
namespace {

using Clock = std::chrono::steady_clock;
using formats::TokenId;

struct RunOptions {
  ModelOptions model;
  TextInput prompt;
  runtime::SamplerOptions sampler;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> logit_bias;
  std::vector<std::string> stop;
  std::int64_t max_tokens = 256;
  bool greedy = false;
  bool echo = false;
  bool ignore_eos = false;
  bool json = false;
};

struct Timing {
  std::int64_t tokens = 0;
  double seconds = 0;
  double per_second() const { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }
};

std::pair<TokenId, float> parse_bias(const std::string& text) {
  const auto colon = text.find(':');
  try {
    if (colon != std::string::npos) return {std::stoi(text.substr(0, colon)), std::stof(text.substr(colon + 1))};
  } catch (const std::exception&) {  // not numbers: the message below says what is expected
  }
  throw UserError(fmt::format("--logit-bias {} is not ID:BIAS", text), "for example --logit-bias 17:-5.5");
}

// A model, a tokenizer and one growing text.
class Writer {
 public:
  explicit Writer(const RunOptions& options)
      : options_(options),
        tokenizer_(open_tokenizer_of(options.model)),
        engine_(open_engine(options.model)),
        session_(std::make_unique<runtime::Session>(*engine_)) {
    runtime::SamplerOptions sampler = options.sampler;
    if (options.greedy) sampler.temperature = 0;
    sampler.seed = options.seed ? *options.seed : std::random_device{}();
    for (const std::string& bias : options.logit_bias) sampler.logit_bias.push_back(parse_bias(bias));
    sampler_.emplace(sampler, runtime::drawable_vocabulary(engine_->model().info(), tokenizer_.get()));
    generate_.max_tokens = options.max_tokens;
    generate_.stop_strings = options.stop;
    if (!options.ignore_eos) {
      generate_.stop_ids = runtime::end_of_text_ids(engine_->model().info(), tokenizer_.get());
    }
  }

  // Reads text into the state.
  void read(const std::string& text) {
    const bool at_start = session_->position() == 0;
    const std::vector<TokenId> ids = runtime::encode_prompt(engine_->model().info(), *tokenizer_, text, at_start);
    if (at_start && ids.empty()) {
      throw CommandError("the prompt is empty and the model has no token to start a text");
    }
    const auto start = Clock::now();
    Progress progress("reading", static_cast<std::int64_t>(ids.size()), "tokens");
    const std::span<const TokenId> all(ids);
    const auto chunk = static_cast<std::size_t>(engine_->options().prefill_chunk);
    for (std::size_t done = 0; done < all.size() && !InterruptGuard::interrupted(); done += chunk) {
      session_->feed(all.subspan(done, std::min(chunk, all.size() - done)));
      progress.update(static_cast<std::int64_t>(done + chunk));
    }
    sampler_->observe_prompt(ids);
    prefill_.tokens += static_cast<std::int64_t>(ids.size());
    prefill_.seconds += std::chrono::duration<double>(Clock::now() - start).count();
  }

  runtime::Generated write(bool continue_later, const std::function<bool(std::string_view)>& show) {
    generate_.continue_later = continue_later;
    const auto start = Clock::now();
    auto generated = runtime::generate(*session_, *sampler_, *tokenizer_, generate_, show);
    decode_.tokens += static_cast<std::int64_t>(generated.tokens.size());
    decode_.seconds += std::chrono::duration<double>(Clock::now() - start).count();
    return generated;
  }

  void forget() { session_ = std::make_unique<runtime::Session>(*engine_); }

  const RunOptions& options() const { return options_; }
  const Timing& prefill() const { return prefill_; }
  const Timing& decode() const { return decode_; }
  std::uint64_t seed() const { return sampler_->options().seed; }

  void print_closing_line() const {
    const Style style = Style::for_stream(stderr);
    fmt::print(stderr,
               "{}prompt {} tokens, {:.1f} tokens/s · text {} tokens, {:.1f} tokens/s · peak memory {} · seed {}{}\n",
               style.dim, prefill_.tokens, prefill_.per_second(), decode_.tokens, decode_.per_second(),
               bytes_text(peak_memory_bytes()), seed(), style.reset);
  }

 private:
  const RunOptions& options_;
  std::unique_ptr<formats::Tokenizer> tokenizer_;
  std::unique_ptr<runtime::Engine> engine_;
  std::unique_ptr<runtime::Session> session_;
  std::optional<runtime::Sampler> sampler_;
  runtime::GenerateOptions generate_;
  Timing prefill_;
  Timing decode_;
};

bool print_piece(std::string_view piece) {
  std::fwrite(piece.data(), 1, piece.size(), stdout);
  std::fflush(stdout);
  return !InterruptGuard::interrupted() && std::ferror(stdout) == 0;
}

int run_once(Writer& writer) {
  const RunOptions& options = writer.options();
  const std::string prompt = options.prompt.read();
  const InterruptGuard guard;
  writer.read(prompt);
  if (InterruptGuard::interrupted()) return kInterruptedStatus;

  if (options.json) {
    std::string text;
    const auto generated = writer.write(false, [&](std::string_view piece) {
      text += piece;
      return !InterruptGuard::interrupted();
    });
    const nlohmann::json answer = {
        {"text", text},
        {"ids", generated.tokens},
        {"finish_reason", runtime::to_string(generated.reason)},
        {"prompt_tokens", writer.prefill().tokens},
        {"prefill_tokens_per_s", writer.prefill().per_second()},
        {"decode_tokens_per_s", writer.decode().per_second()},
        {"peak_rss_bytes", peak_memory_bytes()},
        {"seed", writer.seed()},
    };
    fmt::print("{}\n", answer.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return generated.reason == runtime::FinishReason::kCancelled ? kInterruptedStatus : 0;
  }

  const Style style = Style::for_stream(stdout);
  if (options.echo || is_terminal(stdout)) fmt::print("{}{}{}", style.bold, prompt, style.reset);
  const auto generated = writer.write(false, print_piece);
  fmt::print("\n");
  std::fflush(stdout);
  writer.print_closing_line();
  return generated.reason == runtime::FinishReason::kCancelled ? kInterruptedStatus : 0;
}

// One text that grows in turns: what is typed, then what the model adds. The state carries everything so far.
int run_interactive(Writer& writer) {
  const Style style = Style::for_stream(stderr);
  fmt::print(stderr,
             "{}Type the beginning of a text; the model goes on. /reset forgets, Ctrl-C stops it, Ctrl-D ends.{}\n",
             style.dim, style.reset);
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
  writer.print_closing_line();
  return 0;
}

}  // namespace

void add_run(CLI::App& program, int& status) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* command = program.add_subcommand("run", "Continue a text: streams it on stdout");
  options->model.add_model(*command);
  options->model.add_tokenizer(*command);
  options->prompt.add(*command, "The text to continue");
  options->model.add_engine(*command);
  command->add_option("-n,--max-new-tokens", options->max_tokens, "Most tokens to write")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->type_name("N");
  command->add_option("-s,--seed", options->seed, "Seed of the draws (default: a random one, shown at the end)")
      ->type_name("S");
  runtime::SamplerOptions& sampler = options->sampler;
  command->add_option("--temp,--temperature", sampler.temperature, "0 is greedy, higher is wilder")
      ->capture_default_str()
      ->type_name("X");
  command->add_flag("--greedy", options->greedy, "Always the most likely token (the same as --temp 0)");
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
  command->add_option("--logit-bias", options->logit_bias, "Added to a token's logit; may be given several times")
      ->allow_extra_args(false)
      ->type_name("ID:BIAS");
  command->add_option("--stop", options->stop, "End at this string; may be given several times")
      ->allow_extra_args(false)
      ->type_name("TEXT");
  command->add_flag("--ignore-eos", options->ignore_eos, "Do not end at the model's end-of-text token");
  command->add_flag("--echo", options->echo, "Print the prompt too (always done on a terminal)");
  command->add_flag("--json", options->json, "One JSON object instead of streamed text");
  command->footer(
      "Examples:\n"
      "  krait run \"Once upon a time\"\n"
      "  krait run -m mamba2-130m -n 100 --seed 7 --temp 0.7 \"The sea\"\n"
      "  krait run --greedy -f chapter.txt > continuation.txt\n"
      "  krait run                       an interactive session, on a terminal");
  command->callback([options, &status] {
    Writer writer(*options);
    const bool interactive = !options->prompt.given() && !options->json && is_terminal(stdin);
    status = interactive ? run_interactive(writer) : run_once(writer);
  });
}

}  // namespace krait::cli
