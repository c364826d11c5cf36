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
  if (request_.pooling) {
    if (tokens_.empty()) throw UserError("no vector is made of no tokens", "give at least one token");
    pooler_.emplace(*request_.pooling, engine);
    request_.max_tokens = 0;
  }
  // All of the prompt is to be read, whatever is stored.
  if (wants_hidden()) request_.use_store = false;
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
  if (pooler_) pooler_->clear();
  prompt_.clear();
}

bool Sequence::spill(runtime::StateParking& parking) {
  ticket_ = parking.park(session_->snapshot());
  if (ticket_) session_.reset();
  return ticket_.has_value();
}

std::optional<std::chrono::milliseconds> Sequence::recall(runtime::StateParking& parking) {
  using Stage = runtime::StateParking::Stage;
  switch (parking.stage(*ticket_)) {
    case Stage::parked:
      // Where there was no memory for it the last time, there may be none for a while.
      parking.fetch(*ticket_);
      return std::chrono::milliseconds(1 << std::min(recalls_++, 9));
    case Stage::reading: return std::chrono::milliseconds(1);
    case Stage::writing:
    case Stage::ready: session_.emplace(engine_, parking.take(*ticket_)); break;
    case Stage::lost:
      parking.drop(*ticket_);
      restart();
      break;
  }
  ticket_.reset();
  recalls_ = 0;
  return std::nullopt;
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

runtime::StepRequest Sequence::request_of(std::int64_t count, bool hidden) {
  const std::span<const TokenId> left = std::span<const TokenId>(tokens_).subspan(static_cast<std::size_t>(fed_));
  const bool reads = count > 0;
  const bool ends = !reads || count == prompt_left();
  const auto part = left.first(static_cast<std::size_t>(reads ? count : 1));
  if (reads && wants_hidden()) {
    return {&*session_, part, pooler_ ? pooler_->wanted_from(count, ends) : 0, runtime::StepOutput::kHidden};
  }
  return {&*session_, part, std::ssize(part) - (ends ? 1 : 0),
          hidden ? runtime::StepOutput::kHidden : runtime::StepOutput::kLogits};
}

Sequence::HeadUse Sequence::head_use(std::int64_t count) const {
  const bool reads = count > 0;
  if (reads && (wants_hidden() || count < prompt_left())) return HeadUse::none;
  // A state that is kept is kept with its logits.
  const auto& snapshots = lookup_.snapshots;
  const bool is_kept = reads && (request_.return_state || request_.max_tokens == 0 ||
                                 (!snapshots.empty() && snapshots.back().position == prompt_tokens()));
  const bool whole = is_kept || reason_ || request_.mask || request_.logprobs || !sampler_.likeliest_needed();
  return whole ? HeadUse::logits : HeadUse::likeliest;
}

// Behind all tokens of the prompt: only the last row's logits are for drawing.
std::span<const float> Sequence::read_hidden(runtime::Lane& lane, const runtime::OutputRows& hidden) {
  if (pooler_) {
    pooler_->add(hidden);
    return {};
  }
  if (fed_ == 0) note_prompt_token(0, request_.state.logits());
  const std::int64_t most = engine_.logit_rows_at_once();
  runtime::OutputRows logits;
  for (std::int64_t first = 0; first < hidden.rows; first += most) {
    logits = lane.logits_of(hidden.slice(first, std::min(most, hidden.rows - first)));
    for (std::int64_t row = 0; row < logits.rows; ++row) {
      const std::int64_t next = fed_ + first + row + 1;
      if (next < prompt_tokens()) note_prompt_token(next, logits.row(row));
    }
  }
  return hidden.rows == prompt_left() ? logits.row(logits.rows - 1) : std::span<const float>();
}

void Sequence::note_prompt_token(std::int64_t index, std::span<const float> logits) {
  PromptToken& token = prompt_.emplace_back();
  token.id = tokens_[static_cast<std::size_t>(index)];
  if (logits.empty() || token.id >= drawable_) return;
  const runtime::Logprobs of = runtime::logprobs_of(logits, token.id, *request_.prompt_logprobs, drawable_);
  token.logprob = of.chosen;
  for (const auto& [id, logprob] : of.top) token.top.push_back({id, logprob});
}

void Sequence::tell_prompt() {
  if (!request_.prompt_logprobs || std::exchange(prompt_told_, true)) return;
  sink_->prompt(std::exchange(prompt_, {}));
}

std::span<const float> Sequence::read(runtime::Lane& lane, std::int64_t count, const runtime::OutputRows& rows,
                                      runtime::StateStore* store) {
  const bool reads = count > 0;
  std::span<const float> row;
  if (rows.rows > 0) row = reads && wants_hidden() ? read_hidden(lane, rows) : rows.row(0);
  fed_ += reads ? count : 1;
  // States are kept with logits where they are known: of the whole prompt, and of one that is returned.
  if (!row.empty() && (reads || reason_)) {
    session_->keep_logits(row);
  } else if (!reads) {
    session_->forget_logits();
  }
  for (; next_snapshot_ < lookup_.snapshots.size(); ++next_snapshot_) {
    const auto& snapshot = lookup_.snapshots[next_snapshot_];
    if (snapshot.position > fed_) break;
    if (snapshot.position < fed_ || store == nullptr) continue;
    store->admit(std::span<const TokenId>(tokens_).first(static_cast<std::size_t>(fed_)), session_->snapshot(),
                 snapshot.kind);
  }
  if (reason_ && fed_ == std::ssize(tokens_)) report(store);
  return row;
}

bool Sequence::wants_token() const { return !reason_ && prompt_left() == 0 && fed_ == std::ssize(tokens_); }

TokenId Sequence::choose(const Offer& offer) {
  if (!offer.likeliest.empty()) {
    std::vector<TokenId> ids;
    std::vector<float> values;
    for (const runtime::LikelyToken& token : offer.likeliest) {
      ids.push_back(token.id);
      values.push_back(token.logit);
    }
    return sampler_.sample_of(ids, values);
  }
  const std::span<const float> logits = offer.logits;
  if (!request_.mask) return sampler_.sample(logits);
  const auto drawable = std::min(logits.size(), static_cast<std::size_t>(drawable_));
  mask_.assign((drawable + 63) / 64, 0);
  request_.mask->allowed(mask_);
  return sampler_.sample(logits, mask_);
}

bool Sequence::draw(const Offer& offer) {
  const auto rest = [&] { return stop_.feed(decoder_.finish()) + stop_.finish(); };
  tell_prompt();
  if (request_.max_tokens == 0) return finish(FinishReason::kLength, {});
  const TokenId id = choose(offer);
  if (std::ranges::find(request_.stop_ids, id) != request_.stop_ids.end()) {
    if (session_->logits().empty()) {
      session_->keep_logits(offer.logits.empty() ? offer.lane->logits_of(offer.hidden).row(0) : offer.logits);
    }
    return finish(FinishReason::kStopToken, rest());
  }
  GeneratedToken event{.id = id, .text = stop_.feed(decoder_.feed(id))};
  if (request_.logprobs) {
    runtime::Logprobs of = runtime::logprobs_of(offer.logits, id, *request_.logprobs, drawable_);
    event.logprob = of.chosen;
    for (const auto& [token, logprob] : of.top) event.top.push_back({token, logprob});
  }
  tokens_.push_back(id);
  if (request_.mask) {
    KRAIT_CHECK(request_.mask->accept(id), "a mask that allows token {} does not accept it", id);
  }
  sink_->token(std::move(event));
  if (stop_.found()) return finish(FinishReason::kStopString, {});
  if (request_.mask && request_.mask->finished()) return finish(FinishReason::kStopToken, rest());
  if (generated() >= request_.max_tokens) return finish(FinishReason::kLength, rest());
  return true;
}

bool Sequence::finish(FinishReason reason, std::string text) {
  reason_ = reason;
  last_text_ = std::move(text);
  return request_.return_state && fed_ < std::ssize(tokens_);  // the last token is still to be fed
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
                   .state = request_.return_state ? session_->snapshot() : runtime::State(),
                   .embedding = pooler_ ? pooler_->result(session_->snapshot()) : std::vector<float>()});
}

}  // namespace krait::server
