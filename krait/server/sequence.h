// One request on its way from prompt to text: its session, where its prompt is cut, what was drawn and shown. It is
// moved by the loop and steps no engine itself.
//
// A sequence can lose its state and come to the same one again, to the bit: the prompt is read in the same cuts, and
// the tokens it had drawn are fed one by one, as they were the first time. Or its state is parked on the disk and comes
// back.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krait/runtime/pooling.h"
#include "krait/runtime/prefill.h"
#include "krait/runtime/state_parking.h"
#include "krait/runtime/stop_strings.h"
#include "krait/server/generation.h"

namespace krait::server {

class Sequence {
 public:
  // Throws UserError for a request that no sequence can be made of.
  Sequence(GenerationId id, GenerationRequest request, std::shared_ptr<GenerationSink> sink, runtime::Engine& engine,
           const formats::Tokenizer& tokenizer);

  GenerationId id() const { return id_; }
  const GenerationRequest& request() const { return request_; }

  // Looks for a state to go on from, and takes one of the engine's; where the store stands must be null for a sequence
  // that does not use it. Throws ExhaustedError when there is no memory.
  void begin(runtime::StateStore* store);
  bool has_state() const { return session_.has_value(); }
  // Gives its state up.
  void restart();
  // Hands its state over, for a while.
  bool spill(runtime::StateParking& parking);
  // Of one that was handed over: none when its state is here again, or was lost, and it begins anew. Otherwise it
  // comes, and is to be asked for again after so long.
  std::optional<std::chrono::milliseconds> recall(runtime::StateParking& parking);
  bool is_spilled() const { return ticket_.has_value(); }
  void drop_spilled(runtime::StateParking& parking) { parking.drop(*std::exchange(ticket_, std::nullopt)); }
  // Why the first begin() found what it did.
  const runtime::Lookup& lookup() const { return lookup_; }
  std::int64_t reused() const { return reused_; }

  // Of the prompt: tokens not read yet, and those up to where it is cut whatever the load (session.h).
  std::int64_t prompt_left() const;
  std::int64_t until_cut() const;
  // Tokens for the next step: the first `count` of what is left of the prompt, or the one drawn last.
  // `hidden`: hidden states in the place of logits, whose head is left to the caller.
  runtime::StepRequest request_of(std::int64_t count, bool hidden = false);
  // What is to be had of such a request's row: the logits, so many of the likeliest tokens, or the row as it is.
  enum class HeadUse : std::uint8_t { logits, likeliest, none };
  HeadUse head_use(std::int64_t count) const;
  std::int64_t likeliest() const { return sampler_.likeliest_needed().value_or(0); }
  // After a step of `lane` with them, of which `rows` are what request_of() asked for. The logits behind the last
  // token, where they are known.
  std::span<const float> read(runtime::Lane& lane, std::int64_t count, const runtime::OutputRows& rows,
                              runtime::StateStore* store);
  // Whether a token is wanted before the next step, from logits().
  bool wants_token() const;

  // What a token is drawn from: the logits, or the likeliest tokens and the hidden state that they are the head of, and
  // the lane that this was computed in.
  struct Offer {
    std::span<const float> logits = {};
    std::span<const runtime::LikelyToken> likeliest = {};
    runtime::OutputRows hidden = {};
    runtime::Lane* lane = nullptr;
  };
  // Draws a token and tells the sink, or finishes. False: it is done, which report() tells the sink.
  bool draw(const Offer& offer);
  // The end, which may be what a client waits for: what is counted of the last token is counted before.
  void report(runtime::StateStore* store);
  // Of a prompt that a stored state stood for altogether, or whose logits were just read.
  std::span<const float> logits() const { return session_->logits(); }

  void started(std::chrono::duration<double> waited);
  void fail(Error error) { sink_->failed(std::move(error)); }
  std::int64_t generated() const { return static_cast<std::int64_t>(tokens_.size()) - prompt_tokens(); }
  std::int64_t prompt_tokens() const { return static_cast<std::int64_t>(request_.prompt.size()); }
  const std::optional<runtime::FinishReason>& reason() const { return reason_; }
  bool is_reported() const { return reported_; }  // the sink has heard the end

  // One whose step failed beside others steps alone until it is past that point: then it is known whose fault it was.
  void suspect() { suspect_until_ = std::max(suspect_until_, fed_ + 1); }
  bool is_suspect() const { return fed_ < suspect_until_; }

 private:
  // Whether hidden states behind tokens of the prompt are wanted, not logits behind its end.
  bool wants_hidden() const { return pooler_.has_value() || (request_.prompt_logprobs && !prompt_told_); }
  std::span<const float> read_hidden(runtime::Lane& lane, const runtime::OutputRows& hidden);
  void note_prompt_token(std::int64_t index, std::span<const float> logits);
  void tell_prompt();
  TokenId choose(const Offer& offer);
  bool finish(runtime::FinishReason reason, std::string text);

  GenerationId id_;
  GenerationRequest request_;
  std::shared_ptr<GenerationSink> sink_;
  runtime::Engine& engine_;
  std::int64_t drawable_;
  runtime::Sampler sampler_;
  formats::TokenDecoder decoder_;
  runtime::StopStrings stop_;

  std::optional<runtime::Pooler> pooler_;
  std::vector<PromptToken> prompt_;  // with prompt_logprobs: those that have been read
  bool prompt_told_ = false;

  std::optional<runtime::Session> session_;
  std::optional<runtime::StateParking::Ticket> ticket_;  // of its state on the disk
  int recalls_ = 0;                                      // that did not bring it
  std::vector<TokenId> tokens_;                          // the prompt, then what was drawn
  std::int64_t fed_ = 0;                                 // of tokens_, in the state
  std::int64_t reused_ = 0;
  runtime::Lookup lookup_;
  std::size_t next_snapshot_ = 0;
  bool started_ = false;
  std::int64_t suspect_until_ = 0;
  std::vector<std::uint64_t> mask_;
  std::optional<runtime::FinishReason> reason_;  // it is done, and at most the last token is still to be fed
  std::string last_text_;
  bool reported_ = false;
};

}  // namespace krait::server
