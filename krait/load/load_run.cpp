#include "krait/load/load_run.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <queue>

namespace krait::load {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;
constexpr double kTick = 0.2;
constexpr double kTokensPerWord = 1.3;  // where the server does not tell

constexpr std::array<std::string_view, 32> kWords = {
    "the",   "old",   "fox",   "went",  "into", "deep",  "wood",  "and",  "there",  "was",  "a",
    "house", "where", "woman", "lived", "with", "her",   "three", "sons", "one",    "day",  "king",
    "came",  "by",    "asked", "for",   "gold", "night", "fell",  "over", "water.", "then,"};

std::string words(std::int64_t count, Random& random) {
  std::string text;
  for (std::int64_t i = 0; i < count; ++i) {
    if (i > 0) text += ' ';
    text += kWords[random.next() % kWords.size()];
  }
  return text;
}

// A person: what was said so far, and what comes next.
struct Conversation {
  Random random{0};
  std::size_t key = 0;
  std::int64_t turn = 0;
  std::string text;               // of completions
  Json messages = Json::array();  // of chats
};

struct Due {
  double at = 0;
  std::shared_ptr<Conversation> conversation;
  std::int64_t prompt_tokens = 0;
  std::int64_t reply_tokens = 0;
  bool operator>(const Due& other) const { return at > other.at; }
};

struct Active {
  Due due;
  ClientConnection connection;
  StreamReader reader;
  RequestResult result;
  std::string request;
  std::string reply;
  bool reused = false;
  bool ended = false;  // [DONE]
  double deadline = 0;
};

class Loader {
 public:
  Loader(const LoadOptions& options, const std::function<bool(const LoadProgress&)>& tick)
      : options_(options), tick_(tick), random_(options.seed), arrivals_(options.arrivals) {}

  Result<LoadResult> run() {
    KRAIT_TRY(calibrate());
    start_ = Clock::now();
    for (std::int64_t i = 0; i < options_.concurrency; ++i) begin_conversation(0);
    next_arrival_ = arrivals_.next(random_);
    while (true) {
      const double time = now();
      if (options_.concurrency == 0) take_arrivals(time);
      while (!due_.empty() && due_.top().at <= time) {
        const Due due = due_.top();
        due_.pop();  // before: one that fails at once may bring the next
        start(due);
      }
      if (time >= next_tick_) {
        next_tick_ = time + kTick;
        if (!tick_(progress(time))) {
          result_.stopped = true;
          break;
        }
      }
      if (active_.empty() && due_.empty() && !more_arrive()) break;
      wait(time);
    }
    result_.seconds = now();
    result_.abandoned = static_cast<std::int64_t>(active_.size());
    tick_(progress(now()));
    return std::move(result_);
  }

 private:
  double now() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  LoadProgress progress(double time) const {
    LoadProgress progress{.seconds = time,
                          .begun = begun_,
                          .running = static_cast<std::int64_t>(active_.size()),
                          .waiting = static_cast<std::int64_t>(due_.size()),
                          .tokens = tokens_};
    progress.failed = failed_;
    progress.answered = static_cast<std::int64_t>(result_.requests.size()) - failed_;
    return progress;
  }

  // How many words make a token of the server's model.
  Result<void> calibrate() {
    Random random(7);
    constexpr std::int64_t kSample = 400;
    const std::string body = Json{{"prompt", words(kSample, random)}, {"add_special_tokens", false}}.dump();
    const auto answer =
        ask(options_.server, request_text(options_.server, "POST", "/tokenize", options_.keys.front(), body), 30);
    if (!answer) return std::unexpected(answer.error());  // nobody is there
    const Json told = answer->status == 200 ? Json::parse(answer->body, nullptr, false) : Json();
    if (told.is_object() && told.contains("tokens") && told["tokens"].is_array() && !told["tokens"].empty()) {
      tokens_per_word_ = static_cast<double>(told["tokens"].size()) / static_cast<double>(kSample);
    }
    return {};
  }

  bool limit_reached() const { return options_.requests > 0 && planned_ >= options_.requests; }

  bool more_arrive() const {
    if (limit_reached()) return false;
    if (options_.concurrency > 0) return false;  // those there are bring the next ones
    if (!options_.trace.empty()) return traced_ < options_.trace.size() && traced_time() <= options_.seconds;
    return next_arrival_ <= options_.seconds;
  }
  double traced_time() const { return options_.trace[traced_].at * options_.time_scale; }
  double next_time() const { return options_.trace.empty() ? next_arrival_ : traced_time(); }

  void take_arrivals(double time) {
    while (more_arrive() && next_time() <= time) {
      const double at = next_time();
      if (options_.trace.empty()) {
        begin_conversation(at);
        next_arrival_ += arrivals_.next(random_);
      } else {
        const TracedRequest& traced = options_.trace[traced_++];
        const auto scaled = [&](std::int64_t tokens) {
          return std::llround(static_cast<double>(tokens) * options_.length_scale);
        };
        plan(at, new_conversation(), scaled(traced.prompt_tokens), scaled(traced.reply_tokens));
      }
    }
  }

  std::shared_ptr<Conversation> new_conversation() {
    auto conversation = std::make_shared<Conversation>();
    conversation->random = Random(random_.next());
    conversation->key = conversations_++ % options_.keys.size();
    return conversation;
  }

  void begin_conversation(double at) { next_turn(at, new_conversation()); }

  void next_turn(double at, std::shared_ptr<Conversation> conversation) {
    const std::int64_t prompt = std::llround(options_.prompt.draw(conversation->random));
    const std::int64_t reply = std::llround(options_.reply.draw(conversation->random));
    plan(at, std::move(conversation), prompt, reply);
  }

  void plan(double at, std::shared_ptr<Conversation> conversation, std::int64_t prompt, std::int64_t reply) {
    if (at > options_.seconds || limit_reached()) return;
    ++planned_;
    due_.push({at, std::move(conversation), std::max<std::int64_t>(prompt, 1), std::max<std::int64_t>(reply, 1)});
  }

  std::string body_of(const Due& due) {
    Conversation& conversation = *due.conversation;
    const auto count = std::llround(std::max(1.0, static_cast<double>(due.prompt_tokens) / tokens_per_word_));
    const std::string text = words(count, conversation.random);
    Json body = Json::object();
    if (!options_.model.empty()) body["model"] = options_.model;
    if (options_.chat) {
      conversation.messages.push_back({{"role", "user"}, {"content", text}});
      body["messages"] = conversation.messages;
    } else {
      conversation.text += (conversation.text.empty() ? "" : "\n") + text;
      body["prompt"] = conversation.text;
    }
    body["max_tokens"] = due.reply_tokens;
    body["temperature"] = options_.temperature;
    body["ignore_eos"] = true;
    body["stream"] = true;
    body["stream_options"] = {{"include_usage", true}};
    return body.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

  void start(const Due& due) {
    ++begun_;
    auto active = std::make_unique<Active>();
    active->due = due;
    active->result.due = due.at;
    active->result.key = due.conversation->key;
    active->result.turn = due.conversation->turn;
    active->deadline = now() + options_.timeout;
    active->request = request_text(options_.server, "POST", options_.chat ? "/v1/chat/completions" : "/v1/completions",
                                   options_.keys[due.conversation->key], body_of(due));
    Active* one = active.get();
    active->reader = StreamReader([this, one](std::string_view data) { take_event(*one, data); });
    if (!idle_.empty()) {
      active->connection = std::move(idle_.back());
      idle_.pop_back();
      active->reused = true;
    } else if (const auto opened = active->connection.open(options_.server); !opened) {
      return end(*active, "connect");
    }
    result_.latest_start = std::max(result_.latest_start, now() - due.at);
    active->connection.send(active->request);
    active_.push_back(std::move(active));
  }

  void take_event(Active& active, std::string_view data) {
    if (data == "[DONE]") {
      active.ended = true;
      return;
    }
    const Json event = Json::parse(data, nullptr, false);
    if (!event.is_object()) {
      active.result.error = "malformed event";
      return;
    }
    if (event.contains("error")) active.result.error = "error event";
    if (const auto usage = event.find("usage"); usage != event.end() && usage->is_object()) {
      active.result.prompt_tokens = usage->value("prompt_tokens", std::int64_t{0});
      tokens_ -= std::exchange(active.result.tokens, usage->value("completion_tokens", active.result.tokens));
      tokens_ += active.result.tokens;
      if (const auto details = usage->find("prompt_tokens_details"); details != usage->end() && details->is_object()) {
        active.result.cached_tokens = details->value("cached_tokens", std::int64_t{0});
      }
    }
    const auto choices = event.find("choices");
    if (choices == event.end() || !choices->is_array() || choices->empty()) return;
    const Json& choice = choices->front();
    std::string text;
    if (options_.chat) {
      if (const auto delta = choice.find("delta"); delta != choice.end() && delta->is_object()) {
        if (const auto content = delta->find("content"); content != delta->end() && content->is_string()) {
          text = content->get<std::string>();
        }
      }
    } else if (const auto part = choice.find("text"); part != choice.end() && part->is_string()) {
      text = part->get<std::string>();
    }
    if (text.empty()) return;
    active.result.last = now();
    if (active.result.first < 0) active.result.first = active.result.last;
    ++active.result.tokens;
    ++tokens_;
    if (options_.turns > 1) active.reply += text;
  }

  // `error`: its kind, or empty.
  void end(Active& active, std::string error) {
    RequestResult& result = active.result;
    result.end = now();
    if (result.error.empty()) result.error = std::move(error);
    if (result.error.empty() && result.first < 0) result.error = "no text";
    if (result.ok() && active.connection.is_open() && active.reader.keep_alive()) {
      idle_.push_back(std::move(active.connection));
    }
    if (!result.ok()) ++failed_;
    const auto conversation = active.due.conversation;
    const double at = result.end;
    const bool goes_on = result.ok() && ++conversation->turn < options_.turns && options_.trace.empty();
    if (goes_on) {
      if (options_.chat) {
        conversation->messages.push_back({{"role", "assistant"}, {"content", active.reply}});
      } else {
        conversation->text += active.reply;
      }
    }
    result_.requests.push_back(std::move(result));
    if (goes_on) {
      next_turn(at + options_.think.draw(conversation->random), conversation);
    } else if (options_.concurrency > 0) {
      // A server that refuses at once is not asked as fast as it can refuse.
      begin_conversation(at + (result_.requests.back().ok() ? options_.think.draw(random_) : 0.1));
    }
  }

  // The kind of the error, empty: none; nothing: it goes on.
  std::optional<std::string> advance(Active& active) {
    bool closed = false;
    const auto done = active.connection.ready(active.reader, closed);
    if (closed || !done) active.connection.close();
    if (!done) {
      if (active.reused && !active.reader.begun()) {
        // A kept connection that the server has closed meanwhile: not its answer to this request.
        active.reused = false;
        if (!active.connection.open(options_.server)) return "connect";
        active.connection.send(active.request);
        return std::nullopt;
      }
      if (done.error().code == ErrorCode::kCorrupt) return "malformed answer";
      return active.reader.begun() ? "torn" : "connection";
    }
    if (!active.reader.done()) return std::nullopt;
    if (active.reader.status() != 200) return fmt::format("status {}", active.reader.status());
    return active.ended ? "" : "torn";
  }

  void wait(double time) {
    double until = next_tick_;
    if (!due_.empty()) until = std::min(until, due_.top().at);
    if (options_.concurrency == 0 && more_arrive()) until = std::min(until, next_time());
    polled_.clear();
    for (const auto& active : active_) {
      until = std::min(until, active->deadline);
      polled_.push_back({active->connection.descriptor(),
                         static_cast<short>(active->connection.wants_to_write() ? POLLIN | POLLOUT : POLLIN), 0});
    }
    const double seconds = std::clamp(until - time, 0.0, kTick);
    timespec rest{static_cast<time_t>(seconds), static_cast<long>((seconds - std::floor(seconds)) * 1e9)};
    if (ppoll(polled_.data(), polled_.size(), &rest, nullptr) < 0) return;  // a signal: the tick sees to it
    // Those that end give room to others, which stand behind.
    const std::size_t count = polled_.size();
    for (std::size_t i = 0; i < count; ++i) {
      Active& active = *active_[i];
      std::optional<std::string> over;
      if (polled_[i].revents != 0) over = advance(active);
      if (!over && now() >= active.deadline) over = "timeout";
      if (!over) continue;
      if (!over->empty() || !active.reader.keep_alive()) active.connection.close();
      end(active, *std::move(over));
      finished_.push_back(i);
    }
    for (auto i = finished_.rbegin(); i != finished_.rend(); ++i) {
      active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(*i));
    }
    finished_.clear();
  }

  const LoadOptions& options_;
  const std::function<bool(const LoadProgress&)>& tick_;
  Random random_;
  const Arrivals arrivals_;
  Clock::time_point start_;
  double tokens_per_word_ = kTokensPerWord;
  double next_tick_ = 0;
  double next_arrival_ = 0;
  std::size_t traced_ = 0;
  std::size_t conversations_ = 0;
  std::int64_t planned_ = 0, begun_ = 0, failed_ = 0, tokens_ = 0;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
  std::vector<std::unique_ptr<Active>> active_;
  std::vector<ClientConnection> idle_;
  std::vector<pollfd> polled_;
  std::vector<std::size_t> finished_;
  LoadResult result_;
};

}  // namespace

Result<LoadResult> run_load(const LoadOptions& options, const std::function<bool(const LoadProgress&)>& tick) {
  return Loader(options, tick).run();
}

}  // namespace krait::load
