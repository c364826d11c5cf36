// krait read: read a text of any length into a state, in memory that does not grow with it.
#include <fmt/format.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "krait/cli/command.h"
#include "krait/cli/open_model.h"
#include "krait/cli/terminal.h"
#include "krait/runtime/prompt.h"
#include "krait/runtime/session.h"
#include "krait/runtime/state_saving.h"

namespace krait::cli {
namespace {

using Clock = std::chrono::steady_clock;
using formats::TokenId;

struct ReadOptions {
  ModelOptions model;
  std::string file;
  std::string out;
  bool resume = false;
  bool keep_tokens = false;
  bool zstd = false;
  bool json = false;
  double save_every = 60;
};

// The tokens of a file as they come, chunk after chunk.
class TokenStream {
 public:
  TokenStream(const std::string& file, const formats::Tokenizer& tokenizer, std::optional<TokenId> start)
      : file_(file), stream_(open_input(file)), encoder_(tokenizer.encoder()) {
    if (start) waiting_.push_back(*start);
  }

  // Up to `most` tokens; fewer only at the end of the file, or when Ctrl-C was pressed.
  std::vector<TokenId> next(std::size_t most) {
    char buffer[1 << 14];
    while (waiting_.size() < most && !finished_ && !InterruptGuard::interrupted()) {
      const std::size_t got = std::fread(buffer, 1, sizeof(buffer), stream_.get());
      if (got > 0) {
        encoder_->feed({buffer, got}, waiting_);
        bytes_ += got;
        continue;
      }
      if (std::ferror(stream_.get()) != 0) {
        if (InterruptGuard::interrupted()) break;
        throw CommandError(fmt::format("cannot read {}: {}", file_, std::strerror(errno)));
      }
      encoder_->finish(waiting_);
      finished_ = true;
    }
    const auto count = static_cast<std::ptrdiff_t>(std::min(most, waiting_.size()));
    std::vector<TokenId> tokens(waiting_.begin(), waiting_.begin() + count);
    waiting_.erase(waiting_.begin(), waiting_.begin() + count);
    return tokens;
  }
  bool at_end() const { return finished_ && waiting_.empty(); }
  std::uint64_t bytes() const { return bytes_; }

 private:
  const std::string& file_;
  InputFile stream_;
  std::unique_ptr<formats::TokenEncoder> encoder_;
  std::vector<TokenId> waiting_;
  std::uint64_t bytes_ = 0;
  bool finished_ = false;
};

class Reader {
 public:
  explicit Reader(const ReadOptions& options)
      : options_(options),
        model_(open_model_with_tokenizer(options.model)),
        identity_(value_or_throw(model_.identity())),
        session_(model_.engine()),
        stream_(options.file, *model_.tokenizer(),
                runtime::start_token(model_.engine().model().info(), *model_.tokenizer(), false)) {}

  int read() {
    const InterruptGuard guard;
    std::error_code no_size;
    const std::uintmax_t size = std::filesystem::file_size(options_.file, no_size);
    if (options_.resume) go_on_from_file();
    const std::int64_t before = session_.position();
    const auto start = Clock::now();
    auto saved = start;
    {
      Progress progress("reading", no_size ? 0 : static_cast<std::int64_t>(size), "bytes");
      while (!stream_.at_end() && !InterruptGuard::interrupted()) {
        const std::vector<TokenId> tokens = stream_.next(chunk());
        feed(tokens);
        progress.update(static_cast<std::int64_t>(stream_.bytes()));
        if (options_.save_every > 0 &&
            std::chrono::duration<double>(Clock::now() - saved).count() > options_.save_every) {
          save();
          saved = Clock::now();
        }
      }
    }
    if (session_.position() == 0) throw CommandError(fmt::format("{} has no text to read", options_.file));
    save();
    report(session_.position() - before, std::chrono::duration<double>(Clock::now() - start).count());
    return stream_.at_end() ? 0 : kInterruptedStatus;
  }

 private:
  std::size_t chunk() const { return static_cast<std::size_t>(model_.engine().options().prefill_chunk); }

  void feed(const std::vector<TokenId>& tokens) {
    session_.feed(tokens);
    if (options_.keep_tokens) tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  }

  // The text is cut into tokens again, which costs little, so that it is known to be the text the state has read.
  void go_on_from_file() {
    const auto object = value_or_throw(formats::StateObject::open(options_.out));
    auto restored = value_or_throw(runtime::restore_state(object, model_.engine(), identity_));
    session_ = runtime::Session(model_.engine(), restored.state);
    Hash128 prefix;
    for (std::int64_t left = session_.position(); left > 0;) {
      const auto tokens = stream_.next(std::min(chunk(), static_cast<std::size_t>(left)));
      if (InterruptGuard::interrupted()) throw CommandError("stopped before anything new was read");
      prefix = extend_prefix(prefix, tokens);
      left -= static_cast<std::int64_t>(tokens.size());
      if (tokens.empty()) break;
      if (options_.keep_tokens) tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    }
    if (prefix != session_.prefix()) {
      throw CommandError(fmt::format("{} does not begin with the {} tokens that {} has read", options_.file,
                                     session_.position(), options_.out));
    }
  }

  void save() {
    runtime::StateExtras extras;
    if (options_.keep_tokens) extras.tokens = tokens_;
    extras.note = fmt::format("read from {}", std::filesystem::path(options_.file).filename().string());
    extras.zstd_level = options_.zstd ? 3 : 0;
    value_or_throw(runtime::save_state(options_.out, model_.engine(), identity_, session_.snapshot(), extras));
  }

  void report(std::int64_t tokens, double seconds) const {
    const double rate = seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
    const std::uint64_t bytes = std::filesystem::file_size(options_.out);
    if (options_.json) {
      fmt::print("{}\n", nlohmann::json({{"state", options_.out},
                                         {"position", session_.position()},
                                         {"tokens_read", tokens},
                                         {"text_bytes", stream_.bytes()},
                                         {"state_bytes", bytes},
                                         {"complete", stream_.at_end()},
                                         {"seconds", seconds},
                                         {"tokens_per_s", rate},
                                         {"peak_rss_bytes", peak_memory_bytes()}})
                             .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
      return;
    }
    fmt::print("{}: the state after {} tokens, {}{}\n", options_.out, count_text(session_.position()),
               bytes_text(bytes), stream_.at_end() ? "" : "; the text goes on, --resume too");
    const Style style = Style::for_stream(stderr);
    fmt::print(stderr, "{}{} tokens read, {:.1f} tokens/s · peak memory {}{}\n", style.dim, count_text(tokens), rate,
               bytes_text(peak_memory_bytes()), style.reset);
  }

  const ReadOptions& options_;
  runtime::OpenedModel model_;
  formats::StateIdentity identity_;
  runtime::Session session_;
  TokenStream stream_;
  std::vector<TokenId> tokens_;
};

}  // namespace

void add_read(CLI::App& program, int& status) {
  auto options = std::make_shared<ReadOptions>();
  CLI::App* command = program.add_subcommand("read", "Read a text of any length into a state file");
  options->model.add_model(*command);
  options->model.add_tokenizer(*command);
  command->add_option("-f,--file", options->file, "The text (- is standard input)")->required()->type_name("FILE");
  command->add_option("-o,--out", options->out, "The state file")->required()->type_name("OUT.state");
  command->add_flag("--resume", options->resume, "Go on where the state file stands, with the same text");
  command->add_flag("--keep-tokens", options->keep_tokens,
                    "Keep the tokens in the state file too, which then grows with the text");
  command->add_flag("--zstd", options->zstd, "Compress the state file");
  command->add_option("--save-every", options->save_every, "Save after so many seconds of reading; 0: at the end only")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->type_name("S");
  options->model.add_engine(*command);
  command->add_flag("--json", options->json, "One JSON object instead of text");
  command->footer(
      "Ctrl-C saves the state at the position reached.\n"
      "Examples:\n"
      "  krait read -f book.txt -o book.state\n"
      "  krait read -f book.txt -o book.state --resume       after Ctrl-C\n"
      "  krait run --state book.state \"The moral of it is\"");
  command->callback([options, &status] { status = Reader(*options).read(); });
}

}  // namespace krait::cli
