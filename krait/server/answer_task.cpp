#include "krait/server/answer_task.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include "krait/core/hash.h"

namespace krait::server {
namespace {

double seconds_between(GenerationClock::time_point from, GenerationClock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

ApiError error_of(const GenerationRefusal& refusal) {
  ApiError error = error_of(refusal.error);
  if (refusal.error.code == ErrorCode::kResourceExhausted) {
    error = error_of_status(429, refusal.error.message);
    error.code = "server_busy";
    error.retry_after_seconds = std::max(refusal.retry_after_seconds, 1.0);
  } else if (refusal.error.code == ErrorCode::kCancelled) {
    error.code = "shutting_down";
    error.retry_after_seconds = 1;
  }
  return error;
}

class AnswerTask::Sink final : public GenerationSink {
 public:
  Sink(std::shared_ptr<AnswerTask> task, std::size_t index) : task_(std::move(task)), index_(index) {}
  void started(GenerationStarted event) override { task_->started(index_, event); }
  void prompt(std::vector<PromptToken> tokens) override { task_->prompt(index_, tokens); }
  void token(GeneratedToken event) override { task_->token(index_, std::move(event)); }
  void finished(GenerationFinished event) override { task_->finished(index_, std::move(event)); }
  void failed(Error error) override { task_->failed(index_, error); }

 private:
  const std::shared_ptr<AnswerTask> task_;
  const std::size_t index_;
};

void AnswerTask::start() {
  const std::shared_ptr<AnswerTask> self = shared_from_this();
  progress_.resize(plan_.sequences.size());
  for (std::size_t i = 0; i < progress_.size(); ++i) {
    progress_[i].result.text = plan_.sequences[i].echo;
    progress_[i].result.with_logprobs = plan_.with_logprobs;
    progress_[i].submitted = GenerationClock::now();
    // Behind a state that a client keeps, the store of states has nothing that could be waited for.
    progress_[i].leader = plan_.sequences[i].request.state ? i : i - i % plan_.sequences_per_prompt;
  }
  exchange_->on_gone([weak = std::weak_ptr<AnswerTask>(self)] {
    if (const auto task = weak.lock()) task->cancel_all();
  });
  for (std::size_t i = 0; i < progress_.size(); ++i) {
    if (progress_[i].leader == i && !submit(i)) return;
  }
}

bool AnswerTask::submit(std::size_t index) {
  auto& sequence = plan_.sequences[index];
  if (!sequence.tokens_known) sequence.tokens_before.clear();
  sequence.tokens_before.insert(sequence.tokens_before.end(), sequence.request.prompt.begin(),
                                sequence.request.prompt.end());
  auto id = generator_.submit(std::move(sequence.request), std::make_shared<Sink>(shared_from_this(), index));
  if (!id) {
    fail_all(error_of(id.error()));
    return false;
  }
  bool cancel = false;
  {
    const std::lock_guard lock(mutex_);
    ids_.push_back(*id);
    cancel = cancelled_;
  }
  if (cancel) generator_.cancel(*id);
  return !cancel;
}

void AnswerTask::prompt_was_read(std::size_t index) {
  {
    const std::lock_guard lock(mutex_);
    if (over_ || cancelled_ || progress_[index].leader != index) return;
    if (std::exchange(progress_[index].has_followers, true)) return;
  }
  for (std::size_t i = index + 1; i < progress_.size(); ++i) {
    if (progress_[i].leader == index && !submit(i)) return;
  }
}

void AnswerTask::cancel_all() {
  std::vector<GenerationId> ids;
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    ids = ids_;
  }
  for (const GenerationId id : ids) generator_.cancel(id);
}

void AnswerTask::fail_all(const ApiError& error) {
  bool begun = false;
  {
    const std::lock_guard lock(mutex_);
    if (over_) return;
    over_ = true;
    begun = begun_;
  }
  exchange_->note("error", error.log.empty() ? error.message : error.log);
  if (!begun) {
    exchange_->respond(plan_.write_error(error));
  } else if (exchange_->send(plan_.format->failure(error))) {
    exchange_->end();
  } else {
    exchange_->cut();
  }
  cancel_all();
}

std::string AnswerTask::bytes_of_token(formats::TokenId id) const {
  const std::string_view bytes = model_.tokenizer->token_bytes(id);
  return bytes.empty() ? model_.tokenizer->id_to_token(id) : std::string(bytes);
}

void AnswerTask::started(std::size_t index, const GenerationStarted& event) {
  bool begin = false;
  {
    const std::lock_guard lock(mutex_);
    if (over_) return;
    Progress& progress = progress_[index];
    progress.result.prompt_tokens = event.prompt_tokens;
    progress.result.reused_tokens = event.reused_tokens;
    progress.result.lookup = event.lookup;
    begin = plan_.stream && !begun_;
    begun_ = begun_ || plan_.stream;
  }
  if (!plan_.stream) return;
  if (begin) {
    exchange_->begin({.content_type = plan_.format->stream_type(),
                      .headers = {{"cache-control", "no-cache"}, {"x-accel-buffering", "no"}}});
  }
  std::string opening = plan_.format->opening(index);
  const AnswerPlan::Sequence& sequence = plan_.sequences[index];
  if (!sequence.echo.empty() && !sequence.prompt_logprobs) opening += plan_.format->piece(index, sequence.echo, {});
  if (!opening.empty()) exchange_->send(opening);
}

std::string AnswerTask::add_text(std::size_t index, const std::string& text, std::span<const ShownLogprob> logprobs,
                                 bool last) {
  SequenceResult& result = progress_[index].result;
  const auto stream = [&](auto&&... arguments) {
    return plan_.stream ? plan_.format->piece(index, arguments...) : std::string();
  };
  ToolCallReader* reader = plan_.sequences[index].calls.get();
  if (reader == nullptr) {
    result.text += text;
    return stream(text, logprobs);
  }
  std::vector<ReplyPart> parts = reader->feed(text);
  if (last) std::ranges::move(reader->finish(), std::back_inserter(parts));
  std::string sent;
  if (!logprobs.empty() && (parts.empty() || parts.front().is_call)) sent += stream(std::string(), logprobs);
  for (const ReplyPart& part : parts) {
    if (!part.is_call) {
      result.text += part.text;
      sent += stream(part.text, &part == &parts.front() ? logprobs : std::span<const ShownLogprob>());
      continue;
    }
    if (part.begins) result.calls.push_back({part.id, part.name, {}});
    result.calls[part.call].arguments += part.arguments;
    if (plan_.stream) sent += plan_.format->call(index, part, result.calls[part.call]);
  }
  return sent;
}

ShownLogprob AnswerTask::shown(formats::TokenId id, float logprob, std::span<const TokenLogprob> top) const {
  ShownLogprob result{.token = bytes_of_token(id), .logprob = logprob};
  for (const TokenLogprob& likely : top) result.top.emplace_back(bytes_of_token(likely.id), likely.logprob);
  return result;
}

void AnswerTask::prompt(std::size_t index, std::span<const PromptToken> tokens) {
  std::vector<ShownLogprob> logprobs;
  for (const PromptToken& token : tokens) {
    logprobs.push_back(shown(token.id, token.logprob.value_or(0), token.top));
    logprobs.back().known = token.logprob.has_value();
  }
  {
    const std::lock_guard lock(mutex_);
    if (over_) return;
    if (!plan_.stream) {
      progress_[index].result.logprobs = std::move(logprobs);
      return;
    }
  }
  const std::string piece = plan_.format->piece(index, plan_.sequences[index].echo, logprobs);
  if (!piece.empty()) exchange_->send(piece);
}

void AnswerTask::token(std::size_t index, GeneratedToken event) {
  prompt_was_read(index);
  std::vector<ShownLogprob> logprobs;
  std::string piece;
  {
    const std::lock_guard lock(mutex_);
    if (over_) return;
    Progress& progress = progress_[index];
    if (!progress.token_seen) {
      progress.token_seen = true;
      progress.first_token = GenerationClock::now();
    }
    progress.tokens.push_back(event.id);
    progress.logprob_sum += event.logprob;
    if (plan_.with_logprobs) {
      logprobs.push_back(shown(event.id, event.logprob, event.top));
    }
    if (!plan_.stream) {
      progress.result.logprobs.insert(progress.result.logprobs.end(), logprobs.begin(), logprobs.end());
    }
    piece = add_text(index, event.text, logprobs, false);
  }
  if (!piece.empty()) exchange_->send(piece);
}

void AnswerTask::finished(std::size_t index, GenerationFinished event) {
  prompt_was_read(index);
  std::string closing;
  bool all = false;
  std::vector<SequenceResult> results;
  std::optional<ApiError> not_kept;
  {
    const std::lock_guard lock(mutex_);
    if (over_) return;
    Progress& progress = progress_[index];
    SequenceResult& result = progress.result;
    const auto now = GenerationClock::now();
    if (!progress.token_seen) progress.first_token = now;
    result.reason = event.reason;
    result.prompt_tokens = event.prompt_tokens;
    result.reused_tokens = event.reused_tokens;
    result.generated_tokens = event.generated_tokens;
    result.prompt_seconds = seconds_between(progress.submitted, progress.first_token);
    result.decode_seconds = seconds_between(progress.first_token, now);
    closing = add_text(index, event.text, {}, true);
    if (event.state && plan_.keep_state) {
      auto& sequence = plan_.sequences[index];
      std::vector<formats::TokenId> tokens;
      if (sequence.tokens_known) {
        tokens = sequence.tokens_before;
        tokens.insert(tokens.end(), progress.tokens.begin(), progress.tokens.end());
        // A text that was ended by a token may have read it; then what it read is not known here.
        if (extend_prefix({}, tokens) != event.state.prefix()) tokens.clear();
      }
      auto shown = plan_.keep_state(std::move(event.state), std::move(tokens));
      if (shown) {
        result.state = *std::move(shown);
      } else {
        not_kept = std::move(shown).error();
      }
    }
    progress.ended = true;
    all = ++ended_ == progress_.size();
    if (plan_.stream && !not_kept) {
      closing += plan_.format->closing(index, result);
      if (all) {
        for (const Progress& one : progress_) results.push_back(one.result);
        closing += plan_.format->end(results);
      }
    }
    exchange_->note("tokens", fmt::format("{}+{}", result.prompt_tokens, result.generated_tokens));
    if (!not_kept && all) over_ = true;
  }
  if (not_kept) {
    fail_all(*not_kept);
    return;
  }
  if (plan_.stream) {
    if (all) keep_answer(results);
    exchange_->send(closing);
    if (all) exchange_->end();
  } else if (all) {
    results = best_results();
    keep_answer(results);
    exchange_->respond({.body = plan_.format->whole(results)});
  }
}

void AnswerTask::keep_answer(std::span<const SequenceResult> results) {
  if (!plan_.keep_answer || results.empty()) return;
  AnswerPlan::Sequence& first = plan_.sequences.front();
  std::vector<formats::TokenId> tokens;
  if (first.tokens_known) {
    tokens = std::move(first.tokens_before);
    tokens.insert(tokens.end(), progress_.front().tokens.begin(), progress_.front().tokens.end());
  }
  plan_.keep_answer(plan_.format->whole(results), results.front(), std::move(tokens));
}

void AnswerTask::failed(std::size_t, const Error& error) {
  ApiError told = server::error_of(error);
  if (error.code == ErrorCode::kResourceExhausted) told.retry_after_seconds = 1;
  fail_all(told);
}

std::vector<SequenceResult> AnswerTask::best_results() {
  std::vector<SequenceResult> results;
  const std::size_t group = plan_.sequences_per_prompt;
  for (std::size_t first = 0; first < progress_.size(); first += group) {
    std::vector<std::size_t> order(group);
    std::iota(order.begin(), order.end(), first);
    if (plan_.per_prompt < group) {
      const auto mean = [&](std::size_t i) {
        return progress_[i].logprob_sum / static_cast<double>(std::max<std::size_t>(progress_[i].tokens.size(), 1));
      };
      std::ranges::stable_sort(order, std::ranges::greater(), mean);
    }
    for (std::size_t i = 0; i < plan_.per_prompt; ++i) results.push_back(std::move(progress_[order[i]].result));
  }
  return results;
}

}  // namespace krait::server
