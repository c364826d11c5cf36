// Requests to a generator, and what came back.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "krait/core/check.h"
#include "krait/models/synthetic.h"
#include "krait/runtime/prefill.h"
#include "krait/runtime/state_parking.h"
#include "krait/server/generation_loop.h"
#include "tests/runtime/stored_states.h"
#include "tests/support/byte_tokenizer.h"

namespace krait::tests {

class Recorder final : public server::GenerationSink {
 public:
  void started(server::GenerationStarted event) override { start = std::move(event); }
  void prompt(std::vector<server::PromptToken> read) override { prompt_tokens = std::move(read); }
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
  std::optional<std::vector<server::PromptToken>> prompt_tokens;
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

inline std::shared_ptr<Recorder> send(server::Generator& loop, server::GenerationRequest request) {
  auto recorder = std::make_shared<Recorder>();
  const auto id = loop.submit(std::move(request), recorder);
  if (!id) throw std::runtime_error(id.error().error.message);
  return recorder;
}

// Has the loop stand still while it exists, in the sink of a request of its own.
class HeldLoop {
 public:
  explicit HeldLoop(server::Generator& loop) : recorder_(std::make_shared<Recorder>()) {
    gate_.lock();
    recorder_->on_token = [this] { const std::lock_guard wait(gate_); };
    server::GenerationRequest request;
    request.prompt = {1};
    request.max_tokens = 1;
    request.priority = 100;
    request.use_store = false;
    if (!loop.submit(std::move(request), recorder_)) throw std::runtime_error("the loop takes no request");
  }
  ~HeldLoop() {
    gate_.unlock();
    recorder_->wait();
  }
  HeldLoop(const HeldLoop&) = delete;
  HeldLoop& operator=(const HeldLoop&) = delete;

 private:
  std::mutex gate_;
  std::shared_ptr<Recorder> recorder_;
};

// Requests of all sorts: lengths round the cuts, greedy and drawn, keys and priorities that park each other.
inline server::GenerationRequest request_of(std::uint64_t seed, std::int64_t vocabulary, std::int64_t longest_prompt,
                                            std::int64_t longest_reply) {
  Random random(seed * 7919 + 1);
  const auto below = [&](std::int64_t n) {
    return static_cast<std::int64_t>(random.next() % static_cast<std::uint64_t>(n));
  };
  server::GenerationRequest request;
  request.prompt = random_tokens(1 + below(longest_prompt), vocabulary, seed + 1000);
  request.max_tokens = 1 + below(longest_reply);
  request.sampler.temperature = seed % 3 == 0 ? 0.8F : 0.0F;
  request.sampler.repetition_penalty = seed % 5 == 0 ? 1.3F : 1.0F;
  request.sampler.seed = seed;
  request.priority = below(4) == 0 ? 1 : 0;
  request.key = "key " + std::to_string(below(5));
  if (seed % 7 == 0) request.stop_ids = {static_cast<formats::TokenId>(below(vocabulary))};
  request.use_store = false;
  return request;
}

inline server::GenerationRequest copy_of(const server::GenerationRequest& request) {
  server::GenerationRequest copy;
  copy.prompt = request.prompt;
  copy.sampler = request.sampler;
  copy.max_tokens = request.max_tokens;
  copy.stop_ids = request.stop_ids;
  copy.stop_strings = request.stop_strings;
  copy.priority = request.priority;
  copy.key = request.key;
  copy.use_store = request.use_store;
  return copy;
}

inline void expect_alike(Recorder& got, const Alone& expected, const std::string& what) {
  ASSERT_FALSE(got.wait().error) << what << ": " << got.error->message;
  EXPECT_EQ(got.ends(), 1) << what;
  EXPECT_EQ(got.tokens, expected.tokens) << what;
  EXPECT_EQ(got.text, expected.text) << what;
  EXPECT_EQ(got.finish->reason, expected.reason) << what;
}

// What does not keep its bits in mixed steps (docs/decisions/0012).
inline server::GenerationLoopOptions exact_for(const models::SyntheticShape& shape,
                                               server::GenerationLoopOptions options) {
  options.batch_invariant = !keeps_bits_in_mixed_steps(shape);
  return options;
}

// Slots for few, and so short a quantum that keys park each other all the time.
inline server::GenerationLoopOptions crowded() {
  return {.scheduler = {.slots = 5, .quantum_seconds = 1e-3, .most_waiting = 1000, .most_wait_seconds = 1e9}};
}

// Where states of sequences that are set aside go, while it exists.
class ParkingFolder {
 public:
  explicit ParkingFolder(const std::string& name)
      : path_(std::filesystem::path(testing::TempDir()) / ("krait-parking-" + name)) {
    std::filesystem::remove_all(path_);
  }
  ~ParkingFolder() { std::filesystem::remove_all(path_); }
  std::unique_ptr<runtime::StateParking> open(runtime::Engine& engine, const formats::StateIdentity& identity,
                                              std::uint64_t bytes = std::uint64_t{1} << 30) const {
    auto parking = runtime::StateParking::open(engine, identity, {path_, bytes});
    if (!parking) throw std::runtime_error(parking.error().message);
    return *std::move(parking);
  }

 private:
  std::filesystem::path path_;
};

// Loops on an engine so small that the loop is what takes the time.
inline constexpr models::SyntheticShape kTinyLoopModel{"tiny", "mamba2", 2, 32, 256, 16, 8};
inline constexpr std::int64_t kTinyLoopChunk = 128;
class TinyLoopTest : public testing::Test {
 protected:
  explicit TinyLoopTest(int threads)
      : tokenizer(byte_tokenizer()),
        engine(make_engine(kTinyLoopModel, {.threads = threads, .prefill_chunk = kTinyLoopChunk})) {}
  static server::GenerationRequest greedy(std::int64_t prompt, std::int64_t tokens, std::uint64_t seed = 1) {
    server::GenerationRequest request;
    request.prompt = random_tokens(prompt, kTinyLoopModel.vocabulary, seed);
    request.max_tokens = tokens;
    request.sampler.temperature = 0;
    return request;
  }
  Alone alone(const server::GenerationRequest& request) const {
    const auto solo = make_engine(kTinyLoopModel, {.threads = 1, .prefill_chunk = kTinyLoopChunk});
    return say_alone(*solo, *tokenizer, kTinyLoopModel.vocabulary, request);
  }

  std::unique_ptr<formats::Tokenizer> tokenizer;
  std::unique_ptr<runtime::Engine> engine;
};

// A model that fails behind one token, having spoilt every state of the step.
class FaultyModel final : public models::Model {
 public:
  static constexpr formats::TokenId kPoison = 200;
  explicit FaultyModel(std::unique_ptr<models::Model> model) : model_(std::move(model)) {
    info_ = model_->info();
    state_layout_ = model_->state_layout();
    head_ = model_->head();
  }
  void forward(models::Step& step, kernels::RowsOut hidden) const override {
    model_->forward(step, hidden);
    KRAIT_CHECK(std::ranges::find(step.tokens(), kPoison) == step.tokens().end(), "the model broke");
  }

 private:
  std::unique_ptr<models::Model> model_;
};

}  // namespace krait::tests
