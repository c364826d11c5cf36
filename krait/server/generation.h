// What the HTTP front and the loop that generates say to each other: a request for one sequence, the events that answer
// it, and the interface between the two. The front knows no engine and the loop knows no HTTP.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/formats/tokenizer.h"
#include "krait/runtime/generate.h"
#include "krait/runtime/pooling.h"
#include "krait/runtime/sampler.h"
#include "krait/runtime/state.h"
#include "krait/server/core_groups.h"
#include "krait/server/cost_model.h"
#include "krait/server/histogram.h"

namespace krait::server {

using formats::TokenId;
using GenerationClock = std::chrono::steady_clock;

// Which tokens may come next, for text that must follow a grammar. Used by one sequence, as its sink is.
class TokenMask {
 public:
  virtual ~TokenMask() = default;
  // Sets the bits of the tokens that may come next and clears all others: token i is bit i % 64 of word i / 64.
  virtual void allowed(std::span<std::uint64_t> mask) = 0;
  // Takes the token that was chosen; false for one that was not allowed.
  virtual bool accept(TokenId id) = 0;
  // Nothing may follow: the sequence ends as if it had met a stop token.
  virtual bool finished() const = 0;
};

// One sequence. A caller who wants n of them submits n.
struct GenerationRequest {
  std::vector<TokenId> prompt = {};  // may be empty only after a state that has logits
  // Go on from this state of the loop's engine; `prompt` is what follows it. None: from the beginning.
  runtime::State state = {};
  runtime::SamplerOptions sampler = {};
  std::int64_t max_tokens = 256;                 // 0: read the prompt and finish
  std::vector<TokenId> stop_ids = {};            // end the text and are not shown
  std::vector<std::string> stop_strings = {};    // end the text and are not shown
  std::optional<int> logprobs = {};              // the chosen token's, and those of so many of the likeliest
  std::optional<int> prompt_logprobs = {};       // the same of the prompt's tokens, which are all computed then
  std::optional<runtime::Pooling> pooling = {};  // a vector for the prompt, in GenerationFinished, and no tokens
  std::unique_ptr<TokenMask> mask = {};
  int priority = 0;                                          // the greater go first, and park the lesser
  std::string key = {};                                      // whose tokens these are: keys share the engine fairly
  bool use_store = true;                                     // go on from states of the store and leave some there
  bool return_state = false;                                 // behind prompt and reply, in GenerationFinished
  std::optional<GenerationClock::time_point> deadline = {};  // a sequence that is not done by then fails
};

struct TokenLogprob {
  TokenId id = 0;
  float logprob = 0.0F;  // of the model, before temperature, penalties and mask
};

struct GenerationStarted {
  std::int64_t prompt_tokens = 0;  // of the request's prompt
  std::int64_t reused_tokens = 0;  // of those, the ones a stored state stood for
  std::string lookup;              // one sentence: what the store had, or why it had nothing
  std::chrono::duration<double> waited{0};
};

// A token of the prompt, and what the model had said of it. Nothing is known of the first one, nor of ids that cannot
// be drawn.
struct PromptToken {
  TokenId id = 0;
  std::optional<float> logprob = {};
  std::vector<TokenLogprob> top = {};  // the likeliest first
};

struct GeneratedToken {
  TokenId id = 0;
  // Text that may be shown now, valid UTF-8. Empty while it could be part of a character or of a stop string.
  std::string text;
  float logprob = 0.0F;                // with logprobs
  std::vector<TokenLogprob> top = {};  // with logprobs, the likeliest first
};

struct GenerationFinished {
  runtime::FinishReason reason = runtime::FinishReason::kLength;
  std::string text;  // what was held back until now
  std::int64_t prompt_tokens = 0;
  std::int64_t reused_tokens = 0;
  std::int64_t generated_tokens = 0;  // without the stop token
  std::string stop_string = {};       // the one that ended the text, if one did
  runtime::State state = {};          // with return_state
  std::vector<float> embedding = {};  // with pooling, as it came out
};

// Hears what becomes of a request: started, then tokens, then finished or failed, after which nothing comes. Called on
// threads of the loop, one sink at a time, all of them; nothing but steps under way is computed meanwhile: hand the
// event on and return. Must not throw. May call cancel and submit of the generator.
class GenerationSink {
 public:
  virtual ~GenerationSink() = default;
  virtual void started(GenerationStarted event) = 0;
  virtual void prompt(std::vector<PromptToken>) {}  // with prompt_logprobs, once, before the first token
  virtual void token(GeneratedToken event) = 0;
  virtual void finished(GenerationFinished event) = 0;
  // kCancelled after cancel() and when the generator stops; kResourceExhausted when a deadline or memory ran out;
  // kInvalidArgument for a request that the model cannot take; kInternal where we are wrong.
  virtual void failed(Error error) = 0;
};

// Why a request was not taken.
struct GenerationRefusal {
  Error error;                     // kResourceExhausted: busy; kInvalidArgument: the request; kCancelled: shutting down
  double retry_after_seconds = 0;  // when busy: after that long it would be taken, as far as can be told
};

// What has happened since the start, and what is now.
struct GenerationStatistics {
  struct KeyUsage {
    std::uint64_t requests = 0;
    std::uint64_t prompt_tokens = 0;
    std::uint64_t reused_tokens = 0;
    std::uint64_t generated_tokens = 0;
  };
  struct LaneUsage {
    int cores = 0;              // now; 0: it has none
    CostModel::Line cost = {};  // fitted to its steps
    std::uint64_t steps = 0;
    double seconds = 0;           // in steps
    std::uint64_t sequences = 0;  // in its steps, summed over these
  };
  struct PredictedTimes {
    double token_seconds = 0;
    double first_token_seconds = 0;
  };
  // Now.
  std::int64_t waiting = 0;     // not begun
  std::int64_t prefilling = 0;  // reading their prompt
  std::int64_t decoding = 0;
  std::int64_t parked = 0;            // begun, and set aside for others
  double predicted_wait_seconds = 0;  // of a request that came now
  CoreGroups core_groups;             // as they were asked for
  bool apart = false;                 // prompts and decodes have cores of their own
  std::array<LaneUsage, kLaneRoles> lanes;
  std::array<PredictedTimes, 2> predicted_groups;  // of the flow of requests as it is, together and apart
  // What a step is believed to take: the base, a sequence that decodes, and a token of a prompt (cost_model.h).
  double cost_base_seconds = 0, cost_decode_seconds = 0, cost_prompt_token_seconds = 0;
  std::uint64_t states_in_use = 0;  // of the engine's memory, the store's with them
  std::uint64_t states_capacity = 0;
  // Of the store: states in all, by tier in bytes, and how many wait to be written to the disk.
  std::uint64_t stored_states = 0;
  std::uint64_t stored_memory_bytes = 0;
  std::uint64_t stored_disk_bytes = 0;
  std::uint64_t stored_waiting = 0;
  bool draining = false;
  // Since the start.
  std::uint64_t submitted = 0;
  std::uint64_t refused = 0;
  std::uint64_t failed = 0;
  std::uint64_t cancelled = 0;
  std::map<std::string, std::uint64_t> finished;  // by the words of FinishReason
  std::uint64_t parkings = 0;
  std::uint64_t group_switches = 0;  // from together to apart, or back
  std::uint64_t restarts = 0;        // sequences that had to give their state up and begin again
  std::uint64_t stored_written = 0;  // states that the store wrote to the disk
  std::uint64_t spills = 0;          // sequences whose state went to the disk, for want of memory
  std::uint64_t resumes = 0;         // and came back
  std::uint64_t steps = 0;
  double awake_seconds = 0;          // of the threads that generate; step_seconds holds what the engine had of them
  std::uint64_t prefill_tokens = 0;  // computed
  std::uint64_t reused_tokens = 0;
  std::uint64_t generated_tokens = 0;
  std::map<std::string, std::uint64_t> lookups;  // by the words of LookupReason: hit, partial_hit, unseen, …
  std::map<std::string, KeyUsage> keys;          // the first 1000; the others together under ""
  Histogram queue_seconds;
  Histogram first_token_seconds;  // from submit to the first token
  Histogram token_seconds;        // between two tokens of a sequence
  Histogram step_seconds;
  Histogram batch_sequences;  // that took part in a step
};

using GenerationId = std::uint64_t;

// Thread-safe.
class Generator {
 public:
  virtual ~Generator() = default;
  // Every request that is taken gets `finished` or `failed`.
  virtual std::expected<GenerationId, GenerationRefusal> submit(GenerationRequest request,
                                                                std::shared_ptr<GenerationSink> sink) = 0;
  // It takes part in no step after the one under way; its sink hears `failed` with kCancelled. One that has ended
  // already, or never was, is no error.
  virtual void cancel(GenerationId id) = 0;
  virtual GenerationStatistics statistics() const = 0;
  // Who computes where from now on; changes no result. kInvalidArgument for groups that the cores do not suffice for.
  virtual Result<void> set_core_groups(const CoreGroups& groups) = 0;
  // Takes no more requests, and waits until those there are have ended, or for so long. Whether all have.
  virtual bool drain(std::chrono::milliseconds limit) = 0;
  // Fails what is left, and ends. Called by destructors too.
  virtual void stop() = 0;
};

}  // namespace krait::server
