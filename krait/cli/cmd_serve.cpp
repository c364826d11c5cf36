// krait serve: a server for clients of OpenAI's and Ollama's APIs, and for states.
#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>

#include "krait/cli/command.h"
#include "krait/cli/open_model.h"
#include "krait/cli/terminal.h"
#include "krait/core/random.h"
#include "krait/formats/chat_template.h"
#include "krait/runtime/prompt.h"
#include "krait/runtime/state_parking.h"
#include "krait/runtime/state_store.h"
#include "krait/server/generation_loop.h"
#include "krait/server/http_server.h"
#include "krait/server/service.h"

namespace krait::cli {
namespace {

// Of sequences that are set aside, on the disk.
constexpr std::uint64_t kParkedBytes = std::uint64_t{8} << 30;

struct ServeOptions {
  ModelOptions model;
  server::HttpOptions http;
  server::ServiceOptions service;
  server::KeyLimits key_limits;
  server::GenerationLoopOptions loop;
  std::string name;           // empty: the folder's
  std::string chat_template;  // empty: the model's
  std::string api_key;
  std::string api_key_file;
  std::string cache;
  double stall_factor = 2;
  std::string fairness = "on";
  std::string core_groups = "together";
  double drain_seconds = 60;
  double ttl_seconds = 3600;
  bool quiet = false;
};

std::string name_of(const ServeOptions& options) {
  if (!options.name.empty()) return options.name;
  std::filesystem::path path = std::filesystem::weakly_canonical(options.model.path());
  if (path.filename().empty()) path = path.parent_path();
  return (path.extension() == ".gguf" ? path.stem() : path.filename()).string();
}

void print_line(std::string_view line) {
  // One call, so that lines of several threads do not mix.
  std::fputs(fmt::format("{}\n", line).c_str(), stderr);
}

std::unique_ptr<runtime::StateStore> open_store(const ServeOptions& options, runtime::Engine& engine,
                                                const formats::StateIdentity& identity) {
  auto opened = runtime::StateStore::open(engine, identity, {.folder = options.cache});
  if (!opened && !options.cache.empty()) {
    print_line(fmt::format("going on without --cache: {}", opened.error().message));
    opened = runtime::StateStore::open(engine, identity, {});
  }
  return value_or_throw(std::move(opened));
}

// The file that is named must be a template; the model's own may be one that is not understood here.
server::ChatForm open_chat(const ServeOptions& options, const server::ServedModel& served) {
  const auto open = [&](const std::filesystem::path& path) -> Result<server::ChatForm> {
    KRAIT_ASSIGN(formats::ChatTemplateSet set, formats::open_chat_template(path));
    // Where no file beside the template names them, those of the tokenizer.
    const formats::Tokenizer& tokenizer = *served.tokenizer;
    const auto& info = served.engine->model().info();
    const auto start = tokenizer.bos() ? tokenizer.bos() : info.bos;
    if (start) set.special_tokens.emplace("bos_token", tokenizer.id_to_token(*start));
    if (!served.end_ids.empty()) {
      set.special_tokens.emplace("eos_token", tokenizer.id_to_token(tokenizer.eos().value_or(served.end_ids.front())));
    }
    return server::ChatForm::of(std::move(set));
  };
  if (!options.chat_template.empty()) return value_or_throw(open(options.chat_template));
  auto form = open(options.model.path());
  if (form) return *std::move(form);
  if (form.error().code != ErrorCode::kNotFound) {
    print_line(fmt::format("chats have the plain form, without the model's template: {}", form.error().message));
  }
  return {};
}

// Beside the states of prompts, whose folder no other process has open.
std::unique_ptr<runtime::StateParking> open_parking(const ServeOptions& options, runtime::Engine& engine,
                                                    const formats::StateIdentity& identity) {
  auto opened = runtime::StateParking::open(
      engine, identity, {.folder = std::filesystem::path(options.cache) / "parked", .disk_bytes = kParkedBytes});
  if (opened) return *std::move(opened);
  print_line(fmt::format("going on without parking on the disk: {}", opened.error().message));
  return nullptr;
}

// Whether what a client gets depends on who else asks.
std::string same_bits_line(const models::Model& model, bool batch_invariant) {
  const std::string why = model.batch_dependence();
  if (why.empty()) return "same bits whoever else is served: yes";
  if (batch_invariant) return fmt::format("same bits whoever else is served: yes, by --batch-invariant ({})", why);
  return fmt::format("same bits whoever else is served: no ({}); --batch-invariant gives it, slower", why);
}

int serve(ServeOptions& options) {
  runtime::OpenedModel model = open_model_with_tokenizer(options.model);
  runtime::Engine& engine = model.engine();
  const models::ModelInfo& info = engine.model().info();

  server::ServedModel served;
  served.identity = value_or_throw(model.identity());
  served.card = {.name = name_of(options),
                 .architecture = served.identity.architecture,
                 .weights = served.identity.weights,
                 .digest = served.identity.model.hex(),
                 .bytes = info.weight_bytes,
                 .created = server::unix_time()};
  served.engine = &engine;
  served.tokenizer = model.tokenizer();
  served.end_ids = runtime::end_of_text_ids(info, model.tokenizer());
  served.drawable = runtime::drawable_vocabulary(info, model.tokenizer());
  served.chat = open_chat(options, served);

  server::ApiKeys keys(options.key_limits);
  if (!options.api_key.empty()) value_or_throw(keys.add("default", options.api_key, options.key_limits));
  if (!options.api_key_file.empty()) {
    value_or_throw(keys.add_lines(read_file(options.api_key_file), options.api_key_file));
    if (!keys.required()) throw CommandError(fmt::format("{} holds no keys", options.api_key_file));
  }

  options.service.version = KRAIT_VERSION;
  options.service.shelf.ttl = std::chrono::duration<double>(options.ttl_seconds);
  // The other half is for the sequences of requests.
  options.service.shelf.states = static_cast<std::int64_t>(std::max<std::uint64_t>(engine.states().capacity() / 2, 1));
  if (!options.quiet) options.service.log = print_line;
  options.http.drain_timeout = std::chrono::milliseconds(static_cast<std::int64_t>(options.drain_seconds * 1000));
  options.loop.scheduler.stall_factor = options.stall_factor;
  options.loop.scheduler.fair = options.fairness == "on";
  options.loop.core_groups = value_or_throw(server::parse_core_groups(options.core_groups, engine.cores()));

  const auto store = open_store(options, engine, served.identity);
  std::unique_ptr<runtime::StateParking> parking;
  if (store->keeps_on_disk()) parking = open_parking(options, engine, served.identity);
  options.loop.parking = parking.get();
  server::GenerationLoop loop(engine, *model.tokenizer(), store.get(), options.loop);
  server::Service service(served, loop, keys, options.service);
  server::HttpServer http(options.http, service);
  service.watch(http);
  value_or_throw(http.listen());

  const bool v6 = options.http.host.find(':') != std::string::npos;
  fmt::print("serving {} at {}://{}{}{}:{}\n", served.card.name,
             options.http.tls_certificate.empty() ? "http" : "https", v6 ? "[" : "", options.http.host, v6 ? "]" : "",
             http.port());
  fmt::print("a state takes {}{}; there is memory for {} sessions\n", bytes_text(engine.states().bytes_per_state()),
             engine.states().page_bytes() > 0 ? ", and more as its text grows" : "",
             count_text(static_cast<std::int64_t>(engine.states().capacity())));
  fmt::print("{}\n", same_bits_line(engine.model(), options.loop.batch_invariant));
  std::fflush(stdout);

  http.run();
  // Sinks of cut streams hold on to the server: the loop ends first.
  loop.stop();
  value_or_throw(store->flush());
  return 0;
}

}  // namespace

void add_serve(CLI::App& program, int& status) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App* command = program.add_subcommand("serve", "Serve a model over HTTP: OpenAI's API, Ollama's, and states");
  options->model.add_model(*command);
  options->model.add_tokenizer(*command);
  options->model.add_engine(*command);
  command->add_option("--host", options->http.host, "Address to listen on")->capture_default_str()->type_name("HOST");
  command->add_option("--port", options->http.port, "Port to listen on; 0: any that is free")
      ->capture_default_str()
      ->type_name("PORT");
  command->add_option("--name", options->name, "What clients call the model (default: the folder's name)")
      ->type_name("NAME");
  command->add_option("--api-key", options->api_key, "Ask every request for this key")
      ->envname("KRAIT_API_KEY")
      ->type_name("KEY");
  command
      ->add_option("--chat-template", options->chat_template,
                   "Chat template instead of the model's: a .jinja file, tokenizer_config.json, a folder or a GGUF")
      ->type_name("FILE");
  command
      ->add_option(
          "--api-key-file", options->api_key_file,
          "Ask for a key: a file with NAME KEY [requests=N] [states=N] [state_bytes=N] [priority=N] [admin=1] a line")
      ->type_name("FILE");
  CLI::Option* certificate = command->add_option("--tls-certificate", options->http.tls_certificate,
                                                 "Serve https with this chain of certificates (PEM)");
  CLI::Option* key = command->add_option("--tls-key", options->http.tls_key, "The certificate's private key (PEM)");
  for (CLI::Option* option : {certificate, key}) option->check(CLI::ExistingFile)->type_name("FILE");
  certificate->needs(key);
  key->needs(certificate);
  command
      ->add_option("--cache", options->cache,
                   "Keep states of prompts in this folder too, so that they outlive the server")
      ->type_name("FOLDER");
  command
      ->add_option("--state-memory", options->model.state_memory,
                   "Memory for states: of requests, of --cache and those kept by id (default: half of what is left)")
      ->check(CLI::PositiveNumber)
      ->type_name("BYTES");
  command->add_option("--slots", options->loop.scheduler.slots, "Sequences that are computed at the same time")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str()
      ->type_name("N");
  command
      ->add_option("--stall-factor", options->stall_factor,
                   "How many times longer a prompt being read may make a step of those that write")
      ->check(CLI::Range(1.0, 1000.0))
      ->capture_default_str()
      ->type_name("X");
  command
      ->add_option("--fairness", options->fairness,
                   "on: keys share the engine equally; off: first come, first served, whoever asks")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  command
      ->add_option(
          "--core-groups", options->core_groups,
          "together: prompts are read in the steps of those that write; P:D: on P cores of their own, beside D "
          "that write; auto: as the load has it")
      ->capture_default_str()
      ->type_name("GROUPS");
  command->add_flag(
      "--batch-invariant", options->loop.batch_invariant,
      "The same bits whoever else is served, with 16-bit weights in place and rounded states too: slower");
  command
      ->add_option("--max-requests", options->key_limits.requests,
                   "Requests of one key (or of all, without keys) at once")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->type_name("N");
  command->add_option("--max-states", options->key_limits.states, "States that are kept for one key")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->type_name("N");
  command->add_option("--max-tokens", options->service.limits.most_tokens, "Most tokens of one reply")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->type_name("N");
  command->add_option("--state-ttl", options->ttl_seconds, "How long a state is kept, where a request does not say")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->type_name("SECONDS");
  command->add_option("--max-body", options->service.body_bytes, "Largest request, but for states that are uploaded")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->type_name("BYTES");
  command->add_option("--max-connections", options->http.connections, "Connections at once")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->type_name("N");
  command
      ->add_option("--stream-buffer", options->http.stream_buffer,
                   "What may wait for a slow reader before it is disconnected")
      ->check(CLI::Range(4096, 1 << 30))
      ->capture_default_str()
      ->type_name("BYTES");
  command
      ->add_option("--cors-origin", options->service.origins,
                   "A web page's origin that may ask from a browser; * is any; may be given several times")
      ->allow_extra_args(false)
      ->type_name("ORIGIN");
  command->add_option("--drain", options->drain_seconds, "After SIGTERM, how long replies may take to end")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->type_name("SECONDS");
  command->add_flag("-q,--quiet", options->quiet, "No line on stderr for each request");
  command->footer(
      "Examples:\n"
      "  krait serve                                 the bundled model at http://127.0.0.1:8080\n"
      "  krait serve -m ~/models/mamba-130m --port 0  a free port, which is printed\n"
      "  krait serve -m model.gguf --host 0.0.0.0 --api-key-file keys.txt\n"
      "  krait serve --cache ~/.cache/krait           states outlive the server\n"
      "  krait serve --core-groups auto               long prompts on cores of their own, as the load has it\n"
      "\n"
      "  curl http://127.0.0.1:8080/v1/completions -d '{\"prompt\": \"Once upon a time\", \"max_tokens\": 40}'\n"
      "  curl http://127.0.0.1:8080/metrics\n"
      "\n"
      "Ctrl-C and SIGTERM let running replies end; a second one cuts them. docs/serve.md has the rest.");
  command->callback([options, &status] { status = serve(*options); });
}

}  // namespace krait::cli
