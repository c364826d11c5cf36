#include "krait/server/sequence.h"

#include <algorithm>
#include <utility>

#include "krait/core/check.h"
#include "krait/runtime/logprobs.h"
#include "krait/runtime/prompt.h"

namespace krait::server {

using runtime::FinishReason;

Sequence::Sequence(GenerationId id, GenerationRequest request, std::shared_ptr<GenerationSink> sink,
                   runtime::Engine& engine, const formats::Tokenizer& tokenizer)
    : id_(id),
      request_(std::move(request)),
      sink_(std::move(sink)),
      engine_(engine),
      drawable_(runtime::drawable_vocabulary(engine.model().info(), &tokenizer)),
      sampler_(request_.sampler, drawable_),
      decoder_(tokenizer),
      stop_(request_.stop_strings),
      tokens_(request_.prompt) {
  KRAIT_CHECK(sink_ != nullptr, "a request without a sink");
  engine.check_tokens(tokens_);
  if (tokens_.empty() && request_.state.logits().empty()) {
    throw UserError("a prompt of no tokens has nothing that follows", "give at least one token");
  }
  if (request_.max_tokens < 0) {
    throw UserError(fmt::format("{} tokens cannot be generated", request_.max_tokens), "give 0 or more");
  }
  sampler_.observe_prompt(tokens_);
}

void Sequence::begin(runtime::StateStore* store) {
  const bool first = !started_;
  if (request_.state) {
    session_.emplace(engine_, request_.state);
    if (first) lookup_.reason = runtime::LookupReason::disabled;
    return;
  }
  if (!first || !request_.use_store) store = nullptr;
  runtime::StateStore::Found found = runtime::find_start(store, tokens_);
  if (found.state) {
    session_.emplace(engine_, found.state);
  } else {
    session_.emplace(engine_);
  }
  fed_ = session_->position();
  if (first) {
    lookup_ = std::move(found.lookup);
    reused_ = fed_;
  }
  // Also where it begins again: these are cuts, and cuts have to be the same.
  const auto& snapshots = lookup_.snapshots;
  next_snapshot_ = static_cast<std::size_t>(
      std::ranges::find_if(snapshots, [&](const auto& snapshot) { return snapshot.position > fed_; }) -
      snapshots.begin());
}

void Sequence::restart() {
  session_.reset();
  fed_ = 0;
}

void Sequence::started(std::chrono::duration<double> waited) {
  if (std::exchange(started_, true)) return;
  sink_->started({.prompt_tokens = prompt_tokens(),
                  .reused_tokens = reused_,
                  .lookup = request_.state ? fmt::format("a state after {} tokens was given", request_.state.position())
                                           : runtime::to_string(lookup_),
                  .waited = waited});
}

std::int64_t Sequence::prompt_left() const { return std::max<std::int64_t>(prompt_tokens() - fed_, 0); }

std::int64_t Sequence::until_cut() const {
  const std::int64_t chunk = engine_.options().prefill_chunk;
  std::int64_t left = std::min(prompt_left(), chunk - session_->position() % chunk);
  if (next_snapshot_ < lookup_.snapshots.size()) {
    left = std::min(left, lookup_.snapshots[next_snapshot_].position - fed_);
  }
  return left;
}

runtime::StepRequest Sequence::request_of(std::int64_t count) {
  const std::span<const TokenId> left = std::span<const TokenId>(tokens_).subspan(static_cast<std::size_t>(fed_));
  const bool reads = count > 0;
  const bool wants_logits = !reads || count == prompt_left();
  const auto part = left.first(static_cast<std::size_t>(reads ? count : 1));
  return {&*session_, part, std::ssize(part) - (wants_logits ? 1 : 0)};
}

void Sequence::read(std::int64_t count, std::span<const float> row, runtime::StateStore* store) {
  const bool reads = count > 0;
  fed_ += reads ? count : 1;
  // States are kept with logits where they are known: of the whole prompt, and of one that is returned.
  if (!row.empty() && (reads || reason_)) session_->keep_logits(row);
  for (; next_snapshot_ < lookup_.snapshots.size(); ++next_snapshot_) {
    const auto& snapshot = lookup_.snapshots[next_snapshot_];
    if (snapshot.position > fed_) break;
    if (snapshot.position < fed_ || store == nullptr) continue;
    store->admit(std::span<const TokenId>(tokens_).first(static_cast<std::size_t>(fed_)), session_->snapshot(),
                 snapshot.kind);
  }
  if (reason_ && fed_ == std::ssize(tokens_)) report(store);
}

bool Sequence::wants_token() const { return !reason_ && prompt_left() == 0 && fed_ == std::ssize(tokens_); }

TokenId Sequence::choose(std::span<const float> logits) {
  if (!request_.mask) return sampler_.sample(logits);
  const auto drawable = std::min(logits.size(), static_cast<std::size_t>(drawable_));
  mask_.assign((drawable + 63) / 64, 0);
  request_.mask->allowed(mask_);
  return sampler_.sample(logits, mask_);
}

bool Sequence::draw(std::span<const float> logits, runtime::StateStore* store) {
  const auto rest = [&] { return stop_.feed(decoder_.finish()) + stop_.finish(); };
  if (request_.max_tokens == 0) return finish(FinishReason::kLength, {}, store);
  const TokenId id = choose(logits);
  if (std::ranges::find(request_.stop_ids, id) != request_.stop_ids.end()) {
    if (session_->logits().empty()) session_->keep_logits(logits);
    return finish(FinishReason::kStopToken, rest(), store);
  }
  GeneratedToken event{.id = id, .text = stop_.feed(decoder_.feed(id))};
  if (request_.logprobs) {
    runtime::Logprobs of = runtime::logprobs_of(logits, id, *request_.logprobs, drawable_);
    event.logprob = of.chosen;
    for (const auto& [token, logprob] : of.top) event.top.push_back({token, logprob});
  }
  tokens_.push_back(id);
  if (request_.mask) {
    KRAIT_CHECK(request_.mask->accept(id), "a mask that allows token {} does not accept it", id);
  }
  sink_->token(std::move(event));
  if (stop_.found()) return finish(FinishReason::kStopString, {}, store);
  if (request_.mask && request_.mask->finished()) return finish(FinishReason::kStopToken, rest(), store);
  if (generated() >= request_.max_tokens) return finish(FinishReason::kLength, rest(), store);
  return true;
}

bool Sequence::finish(FinishReason reason, std::string text, runtime::StateStore* store) {
  reason_ = reason;
  last_text_ = std::move(text);
  if (request_.return_state && fed_ < std::ssize(tokens_)) return true;  // the last token is still to be fed
  report(store);
  return false;
}

void Sequence::report(runtime::StateStore* store) {
  reported_ = true;
  const auto fed = std::span<const TokenId>(tokens_).first(static_cast<std::size_t>(fed_));
  if (store != nullptr && request_.use_store && !request_.state && fed_ > prompt_tokens()) {
    store->admit(fed, session_->snapshot(), runtime::StateKind::reply);
  }
  sink_->finished({.reason = *reason_,
                   .text = std::move(last_text_),
                   .prompt_tokens = prompt_tokens(),
                   .reused_tokens = reused_,
                   .generated_tokens = generated(),
                   .stop_string = stop_.found_string(),
                   .state = request_.return_state ? session_->snapshot() : runtime::State()});
}

}  // namespace krait::server
