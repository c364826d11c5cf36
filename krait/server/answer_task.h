// One answer in the making: the sequences of a request, submitted to the generator, and their events turned into an
// answer, whole or streamed. A client that goes away cancels them all.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "krait/server/answer_format.h"
#include "krait/server/generation.h"
#include "krait/server/generation_parameters.h"
#include "krait/server/http_message.h"
#include "krait/server/served_model.h"
#include "krait/server/state_shelf.h"

namespace krait::server {

// What a refusal means for the client: 429 when the generator is busy.
ApiError error_of(const GenerationRefusal& refusal);

// The answer to an error, in a dialect's shape.
using WriteError = std::function<HttpAnswer(const ApiError&)>;

struct AnswerPlan {
  std::unique_ptr<AnswerFormat> format;
  WriteError write_error;
  bool stream = false;
  bool with_logprobs = false;
  std::size_t per_prompt = 1;  // of the sequences of a prompt, so many are answered: those of the highest mean logprob
  struct Sequence {
    GenerationRequest request;
    std::string echo;                             // stands before the text
    std::vector<formats::TokenId> tokens_before;  // of the state it goes on from
    bool tokens_known = true;
    std::unique_ptr<ToolCallReader> calls;  // where functions may be called
    bool prompt_logprobs = false;           // the echo comes with them
  };
  std::vector<Sequence> sequences;
  std::size_t sequences_per_prompt = 1;
  // Keeps a state that was asked for; on the generator's thread.
  std::function<ApiResult<ShownState>(runtime::State, std::vector<formats::TokenId>)> keep_state;
  // Keeps an answer, before its client hears of its end: its whole body, its first sequence, and that one's tokens,
  // where all of them are known. On the generator's thread.
  std::function<void(const std::string& body, const SequenceResult& first, std::vector<formats::TokenId> tokens)>
      keep_answer;
};

class AnswerTask : public std::enable_shared_from_this<AnswerTask> {
 public:
  AnswerTask(std::shared_ptr<Exchange> exchange, AnswerPlan plan, Generator& generator, const ServedModel& model)
      : exchange_(std::move(exchange)), plan_(std::move(plan)), generator_(generator), model_(model) {}

  void start();

 private:
  class Sink;
  struct Progress {
    SequenceResult result;
    std::vector<formats::TokenId> tokens;
    double logprob_sum = 0;
    GenerationClock::time_point submitted;
    GenerationClock::time_point first_token;
    bool token_seen = false;
    // Of the sequences of one prompt the first reads it; the others come when it has, and go on from the state that it
    // left in the store of states.
    std::size_t leader = 0;
    bool has_followers = false;
    bool ended = false;
  };

  bool submit(std::size_t index);  // false: the answer is over
  // Submits the sequences that it leads.
  void prompt_was_read(std::size_t index);

  void started(std::size_t index, const GenerationStarted& event);
  void prompt(std::size_t index, std::span<const PromptToken> tokens);
  void token(std::size_t index, GeneratedToken event);
  void finished(std::size_t index, GenerationFinished event);
  void failed(std::size_t index, const Error& error);
  void fail_all(const ApiError& error);
  void cancel_all();
  // More text of a sequence: adds it to the result, and gives what a stream has to send. With the mutex held.
  std::string add_text(std::size_t index, const std::string& text, std::span<const ShownLogprob> logprobs, bool last);
  std::vector<SequenceResult> best_results();
  void keep_answer(std::span<const SequenceResult> results);
  std::string bytes_of_token(formats::TokenId id) const;
  ShownLogprob shown(formats::TokenId id, float logprob, std::span<const TokenLogprob> top) const;

  const std::shared_ptr<Exchange> exchange_;
  AnswerPlan plan_;
  Generator& generator_;
  const ServedModel& model_;

  // The events of all sequences come one at a time; start() runs on another thread.
  std::mutex mutex_;
  std::vector<Progress> progress_;
  std::vector<GenerationId> ids_;
  std::size_t ended_ = 0;
  bool begun_ = false;  // a stream
  bool over_ = false;
  bool cancelled_ = false;
};

}  // namespace krait::server
