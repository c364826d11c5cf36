// Requests to a generator, and what came back.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "krait/models/synthetic.h"
#include "krait/runtime/prefill.h"
#include "krait/server/generation.h"

namespace krait::tests {

class Recorder final : public server::GenerationSink {
 public:
  void started(server::GenerationStarted event) override { start = std::move(event); }
  void token(server::GeneratedToken event) override {
    text += event.text;
    tokens.push_back(event.id);
    events.push_back(std::move(event));
    if (on_token) on_token();
  }
  void finished(server::GenerationFinished event) override {
    text += event.text;
    end([&] { finish = std::move(event); });
  }
  void failed(Error wrong) override {
    end([&] { error = std::move(wrong); });
  }
  // Waits for the end. What is here may be read after it.
  Recorder& wait() {
    std::unique_lock lock(mutex_);
    if (!ended_.wait_for(lock, std::chrono::minutes(2), [&] { return ends_ > 0; })) {
      throw std::runtime_error("a request did not end in two minutes");
    }
    return *this;
  }
  int ends() {
    const std::lock_guard lock(mutex_);
    return ends_;
  }

  std::function<void()> on_token;  // on the loop's thread
  std::optional<server::GenerationStarted> start;
  std::vector<formats::TokenId> tokens;
  std::vector<server::GeneratedToken> events;
  std::string text;
  std::optional<server::GenerationFinished> finish;
  std::optional<Error> error;

 private:
  void end(const std::function<void()>& set) {
    const std::lock_guard lock(mutex_);
    set();
    ++ends_;
    ended_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable ended_;
  int ends_ = 0;
};

// Whether rows of a step keep their bits whatever else is in it. The low-rank factors of RWKV-7 in its authors' layout
// are no panels; Mamba-3 of rank 3 scans chunks of 64 / 3 rows, and cuts at multiples of 64 are no ends of these.
inline bool keeps_bits_in_mixed_steps(const models::SyntheticShape& shape) {
  return shape.architecture != "rwkv7" && (shape.rank & (shape.rank - 1)) == 0;
}

// What a request says when it has the engine for itself: the ordinary way of `krait run`.
struct Alone {
  std::vector<formats::TokenId> tokens;
  std::string text;
  runtime::FinishReason reason;
};
inline Alone say_alone(runtime::Engine& engine, const formats::Tokenizer& tokenizer, std::int64_t drawable,
                       const server::GenerationRequest& request, runtime::StateStore* store = nullptr) {
  runtime::Prefilled prefilled = runtime::prefill(engine, store, request.prompt);
  runtime::Sampler sampler(request.sampler, drawable);
  sampler.observe_prompt(request.prompt);
  Alone result;
  runtime::Generated generated = runtime::generate(
      prefilled.session, sampler, tokenizer,
      {.max_tokens = request.max_tokens, .stop_ids = request.stop_ids, .stop_strings = request.stop_strings},
      [&](std::string_view piece) {
        result.text += piece;
        return true;
      });
  result.tokens = std::move(generated.tokens);
  result.reason = generated.reason;
  return result;
}

}  // namespace krait::tests
