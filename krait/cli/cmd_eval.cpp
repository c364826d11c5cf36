// krait eval: how well a model predicts a text, in bits per byte. Reads a text of any length in constant memory: the
// state is carried through, there are no windows.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <numbers>

#include "krait/cli/command.h"
#include "krait/cli/open_model.h"
#include "krait/cli/terminal.h"
#include "krait/runtime/divergence.h"
#include "krait/runtime/text_score.h"

namespace krait::cli {
namespace {

struct EvalOptions {
  ModelOptions model;
  std::string against;
  std::string file;
  std::int64_t chunk = 0;  // 0: as many tokens as the engine takes at once
  bool json = false;
};

// The text through a second model, and how far the first one's predictions are from it.
struct Reference {
  std::unique_ptr<runtime::Engine> engine;
  runtime::Session session;
  runtime::Session tested;
  runtime::Divergence divergence;

  Reference(std::unique_ptr<runtime::Engine> reference, runtime::Engine& measured)
      : engine(std::move(reference)), session(*engine), tested(measured), divergence(session, tested) {}

  static std::unique_ptr<Reference> open(const EvalOptions& options, runtime::Engine& measured) {
    if (options.against.empty()) return nullptr;
    ModelOptions model;
    model.model = options.against == "f32" ? options.model.path().string() : options.against;
    model.weights = "f32";
    model.exact_activations = true;
    model.threads = options.model.threads;
    return std::make_unique<Reference>(open_engine(model), measured);
  }
};

// Collects tokens so that the model sees full chunks however the file's pieces fall.
class ChunkedScore {
 public:
  ChunkedScore(runtime::TextScore& score, Reference* reference, std::int64_t chunk)
      : score_(score), reference_(reference), chunk_(static_cast<std::size_t>(chunk)) {}

  void feed_full() {
    std::size_t done = 0;
    for (; waiting_.size() - done >= chunk_; done += chunk_) feed(std::span(waiting_).subspan(done, chunk_));
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(done));
  }
  void feed_rest() {
    feed(waiting_);
    waiting_.clear();
  }
  std::vector<formats::TokenId>& waiting() { return waiting_; }

 private:
  void feed(std::span<const formats::TokenId> tokens) {
    score_.feed(tokens);
    if (reference_ != nullptr) reference_->divergence.feed(tokens);
  }

  runtime::TextScore& score_;
  Reference* reference_;
  std::size_t chunk_;
  std::vector<formats::TokenId> waiting_;
};

int eval(const EvalOptions& options) {
  const InputFile stream = open_input(options.file);
  std::error_code no_size;
  const std::uintmax_t size = std::filesystem::file_size(options.file, no_size);

  const auto tokenizer = open_tokenizer_of(options.model);
  const auto engine = open_engine(options.model);
  runtime::Session session(*engine);
  runtime::TextScore score(session);
  const auto reference = Reference::open(options, *engine);
  ChunkedScore chunks(score, reference.get(), options.chunk > 0 ? options.chunk : engine->logit_rows_at_once());
  const auto encoder = tokenizer->encoder();

  const InterruptGuard guard;
  const auto start = std::chrono::steady_clock::now();
  std::uint64_t bytes = 0;
  {
    Progress progress("reading", no_size ? 0 : static_cast<std::int64_t>(size), "bytes");
    char buffer[1 << 14];
    std::size_t got = 0;
    while (!InterruptGuard::interrupted() && (got = std::fread(buffer, 1, sizeof(buffer), stream.get())) > 0) {
      encoder->feed({buffer, got}, chunks.waiting());
      chunks.feed_full();
      bytes += got;
      progress.update(static_cast<std::int64_t>(bytes));
    }
    if (std::ferror(stream.get()) != 0) throw CommandError(fmt::format("cannot read {}", options.file));
    if (InterruptGuard::interrupted()) {
      progress.finish();
      fmt::print(stderr, "stopped after {} bytes\n", bytes);
      return kInterruptedStatus;
    }
    encoder->finish(chunks.waiting());
    chunks.feed_rest();
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (score.scored() == 0) {
    throw CommandError(fmt::format("{} has {} tokens; a score needs at least two", options.file, score.tokens()));
  }

  const double nll = score.negative_log_likelihood();
  const double bits_per_byte = nll / std::numbers::ln2 / static_cast<double>(bytes);
  const double perplexity = std::exp(nll / static_cast<double>(score.scored()));
  const double rate = static_cast<double>(score.tokens()) / seconds;
  if (options.json) {
    nlohmann::json out = {{"tokens", score.tokens()},
                          {"scored", score.scored()},
                          {"bytes", bytes},
                          {"nll", nll},
                          {"bits_per_byte", bits_per_byte},
                          {"perplexity", perplexity},
                          {"tokens_per_s", rate},
                          {"peak_rss_bytes", peak_memory_bytes()}};
    if (reference) {
      out["kl_nats"] = reference->divergence.mean_nats();
      out["kl_nats_largest"] = reference->divergence.largest_nats();
      out["same_top_share"] = reference->divergence.same_top_share();
    }
    fmt::print("{}\n", out.dump());
  } else {
    fmt::print("{:.5f} bits/byte · perplexity {:.3f} a token · {} tokens of {} bytes\n", bits_per_byte, perplexity,
               count_text(score.tokens()), count_text(static_cast<std::int64_t>(bytes)));
    if (reference) {
      const runtime::Divergence& divergence = reference->divergence;
      fmt::print("KL {:.6f} nats a token from the reference (largest {:.4f}) · same likeliest token {:.2f} %\n",
                 divergence.mean_nats(), divergence.largest_nats(), 100 * divergence.same_top_share());
    }
    fmt::print(stderr, "{:.0f} tokens/s · peak memory {}\n", rate, bytes_text(peak_memory_bytes()));
  }
  return 0;
}

}  // namespace

void add_eval(CLI::App& program, int& status) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* command = program.add_subcommand("eval", "Score how well a model predicts a text");
  options->model.add_model(*command);
  options->model.add_tokenizer(*command);
  options->model.add_engine(*command);
  command->add_option("-f,--file", options->file, "The text, of any length (- is standard input)")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--chunk", options->chunk,
                   "Feed the text in pieces of K tokens; the score depends on it only as far as states are rounded")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("K");
  command
      ->add_option(
          "--against", options->against,
          "Also the Kullback-Leibler divergence from another version of the model, held in f32 (\"f32\" is the "
          "model itself)")
      ->type_name("PATH|f32");
  command->add_flag("--json", options->json,
                    "{\"tokens\":…,\"bytes\":…,\"nll\":…,\"bits_per_byte\":…,\"perplexity\":…}");
  command->footer(
      "Examples:\n  krait eval -f book.txt\n  krait eval -m mamba-130m -f book.txt --weights bf16 --json\n"
      "  krait eval -m mamba-130m-int4 -f book.txt --against mamba-130m");
  command->callback([options, &status] { status = eval(*options); });
}

}  // namespace krait::cli
