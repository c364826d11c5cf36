// krait load: load on a server, and what its clients see of it.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "krait/cli/command.h"
#include "krait/cli/open_model.h"
#include "krait/cli/terminal.h"
#include "krait/load/load_report.h"

namespace krait::cli {
namespace {

struct LoadCommand {
  load::LoadOptions load;
  load::Objectives objectives;
  std::string url;
  std::string prompt = "128";
  std::string reply = "64";
  std::string think = "0";
  std::string arrivals = "poisson";
  std::string trace;
  std::string api = "completions";
  std::vector<std::string> keys;
  double slo_first_ms = 0;
  double slo_token_ms = 0;
  bool seconds_given = false;
  bool json = false;
};

load::Spread spread(const std::string& text, const char* option) {
  auto parsed = load::Spread::parse(text);
  if (!parsed) throw UserError(fmt::format("{}: {}", option, parsed.error().message), "such as 128, 64-256 or exp:200");
  return *parsed;
}

void show(const load::LoadProgress& progress) {
  fmt::print(stderr, "\r\x1b[K{:.0f} s  {} begun, {} running, {} answered, {} failed  {:.0f} tokens/s",
             progress.seconds, progress.begun, progress.running, progress.answered, progress.failed,
             progress.seconds > 0 ? static_cast<double>(progress.tokens) / progress.seconds : 0.0);
  std::fflush(stderr);
}

int run(LoadCommand& command) {
  load::LoadOptions& options = command.load;
  options.prompt = spread(command.prompt, "--prompt");
  options.reply = spread(command.reply, "--output");
  options.think = spread(command.think, "--think");
  options.arrivals.kind = command.arrivals == "fixed"     ? load::ArrivalKind::fixed
                          : command.arrivals == "poisson" ? load::ArrivalKind::poisson
                                                          : load::ArrivalKind::gamma;
  options.chat = command.api == "chat";
  if (!command.keys.empty()) options.keys = command.keys;
  command.objectives = {command.slo_first_ms / 1000, command.slo_token_ms / 1000};
  if (!command.trace.empty()) options.trace = value_or_throw(load::read_trace(read_file(command.trace), command.trace));
  // Whoever says how many, or which, wants all of them.
  if (!command.seconds_given && (options.requests > 0 || !options.trace.empty())) options.seconds = 1e9;
  if (options.warmup >= options.seconds) {
    throw UserError(fmt::format("--warmup {} leaves nothing of --duration {}", options.warmup, options.seconds),
                    "a longer --duration");
  }
  options.server = value_or_throw(load::resolve(command.url));

  const bool shown = is_terminal(stderr);
  const InterruptGuard guard;
  const auto result = value_or_throw(load::run_load(options, [&](const load::LoadProgress& progress) {
    if (shown) show(progress);
    return !InterruptGuard::interrupted();
  }));
  if (shown) fmt::print(stderr, "\r\x1b[K");
  const load::LoadReport report = load::report_of(result, options, command.objectives);
  fmt::print("{}", command.json ? json_text(report, options, command.objectives) + "\n"
                                : plain_text(report, command.objectives));
  if (result.stopped) return kInterruptedStatus;
  if (report.answered == 0) throw CommandError(fmt::format("of {} requests none was answered", report.requests));
  return 0;
}

}  // namespace

void add_load(CLI::App& program, int& status) {
  auto options = std::make_shared<LoadCommand>();
  CLI::App* command = program.add_subcommand("load", "Put load on a server and measure what its clients see");
  command->add_option("url", options->url, "Where it is, such as http://127.0.0.1:8080")->required()->type_name("URL");
  auto* rate = command
                   ->add_option("--rate", options->load.arrivals.per_second,
                                "Requests a second, whoever is still being answered")
                   ->check(CLI::Range(1e-6, 1e6))
                   ->capture_default_str()
                   ->type_name("R");
  command->add_option("--arrivals", options->arrivals, "How they come: poisson, gamma (in bursts), fixed")
      ->check(CLI::IsMember({"poisson", "gamma", "fixed"}))
      ->capture_default_str();
  command->add_option("--cv", options->load.arrivals.variation, "Coefficient of variation of gamma arrivals")
      ->check(CLI::Range(0.05, 20.0))
      ->capture_default_str()
      ->type_name("X");
  auto* closed = command
                     ->add_option("-c,--concurrency", options->load.concurrency,
                                  "So many at a time instead, the next when one is over")
                     ->check(CLI::Range(1, 16384))
                     ->excludes(rate)
                     ->type_name("N");
  command
      ->add_option("--trace", options->trace,
                   "Requests at the times and of the lengths of a CSV: TIMESTAMP,ContextTokens,GeneratedTokens")
      ->excludes(rate)
      ->excludes(closed)
      ->type_name("FILE");
  command->add_option("--time-scale", options->load.time_scale, "Of the trace; 0.1 is ten times as fast")
      ->check(CLI::Range(1e-6, 1e6))
      ->capture_default_str()
      ->type_name("X");
  command->add_option("--length-scale", options->load.length_scale, "Of the trace's prompts and replies")
      ->check(CLI::Range(1e-6, 1e3))
      ->capture_default_str()
      ->type_name("X");
  command->add_option("-p,--prompt", options->prompt, "Tokens of a prompt: N, LEAST-MOST, exp:MEAN, lognormal:MEAN:CV")
      ->capture_default_str()
      ->type_name("LENGTH");
  command->add_option("-n,--output", options->reply, "Tokens of a reply, likewise")
      ->capture_default_str()
      ->type_name("LENGTH");
  command->add_option("--turns", options->load.turns, "Turns of a conversation, whose past goes along")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str()
      ->type_name("N");
  command->add_option("--think", options->think, "Seconds before the next turn, likewise")
      ->capture_default_str()
      ->type_name("TIME");
  command->add_option("--api", options->api, "completions or chat")
      ->check(CLI::IsMember({"completions", "chat"}))
      ->capture_default_str();
  command->add_option("--model", options->load.model, "The model to name in requests, where a server has several")
      ->type_name("NAME");
  command->add_option("--key", options->keys, "An API key; of several each conversation takes the next")
      ->allow_extra_args(false)
      ->type_name("KEY");
  command->add_option("--temperature", options->load.temperature, "Of sampling")
      ->check(CLI::Range(0.0, 10.0))
      ->capture_default_str()
      ->type_name("X");
  auto* seconds = command->add_option("-d,--duration", options->load.seconds, "Seconds in which requests come")
                      ->check(CLI::Range(0.1, 1e7))
                      ->capture_default_str()
                      ->type_name("S");
  command->add_option("--requests", options->load.requests, "End after so many")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  command->add_option("--warmup", options->load.warmup, "Requests of the first seconds are not counted")
      ->check(CLI::Range(0.0, 1e7))
      ->capture_default_str()
      ->type_name("S");
  command->add_option("--timeout", options->load.timeout, "Seconds after which a request is given up")
      ->check(CLI::Range(0.1, 1e6))
      ->capture_default_str()
      ->type_name("S");
  command->add_option("--slo-ttft", options->slo_first_ms, "Goodput: milliseconds to the first token at most")
      ->check(CLI::PositiveNumber)
      ->type_name("MS");
  command->add_option("--slo-tpot", options->slo_token_ms, "Goodput: milliseconds for each further token at most")
      ->check(CLI::PositiveNumber)
      ->type_name("MS");
  command->add_option("--seed", options->load.seed, "Of arrivals, lengths and prompts")->capture_default_str();
  command->add_flag("--json", options->json, "For machines");
  command->footer(
      "Times count from when a request was due, so that a server that stalls does not look better for it. Time per\n"
      "output token is that after the first one. Ctrl-C reports what was measured until then (status 130).\n"
      "Examples:\n"
      "  krait load http://127.0.0.1:8080 --rate 4 -d 60 --slo-ttft 500 --slo-tpot 50\n"
      "  krait load http://127.0.0.1:8080 --rate 4 --arrivals gamma --cv 3 -p lognormal:500:1 -n exp:100\n"
      "  krait load http://127.0.0.1:8080 -c 32 --requests 500 -p 64 -n 128 --json\n"
      "  krait load http://127.0.0.1:8080 -c 8 --api chat --turns 6 --think exp:2\n"
      "  krait load http://127.0.0.1:8080 --trace azure_llm_2023_conv.csv --time-scale 0.5 --length-scale 0.1");
  command->callback([options, seconds, &status] {
    options->seconds_given = seconds->count() > 0;
    status = run(*options);
  });
}

}  // namespace krait::cli
