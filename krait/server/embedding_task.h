// The vectors of a request in the making: its texts submitted to the generator, a window of them at a time, so that a
// long list does not fill the queue. A client that goes away has the rest cancelled.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "krait/server/answer_task.h"
#include "krait/server/embeddings_api.h"
#include "krait/server/generation.h"
#include "krait/server/http_message.h"

namespace krait::server {

struct EmbeddingPlan {
  std::vector<std::vector<formats::TokenId>> inputs = {};
  runtime::Pooling pooling = runtime::Pooling::mean;
  std::string model = {};
  std::string key = {};
  int priority = 0;
  std::function<std::string(const EmbeddingResult&)> body;
  WriteError write_error;
};

class EmbeddingTask : public std::enable_shared_from_this<EmbeddingTask> {
 public:
  static constexpr std::size_t kAtOnce = 32;

  EmbeddingTask(std::shared_ptr<Exchange> exchange, EmbeddingPlan plan, Generator& generator)
      : exchange_(std::move(exchange)), plan_(std::move(plan)), generator_(generator) {}
  void start();

 private:
  class Sink;
  void submit(std::size_t index);
  void finished(std::size_t index, GenerationFinished event);
  void fail(const ApiError& error);
  void cancel();

  const std::shared_ptr<Exchange> exchange_;
  EmbeddingPlan plan_;
  Generator& generator_;
  const GenerationClock::time_point begun_ = GenerationClock::now();

  std::mutex mutex_;  // of all below
  EmbeddingResult result_;
  std::vector<GenerationId> ids_;
  std::size_t next_ = 0;  // to be submitted
  std::size_t done_ = 0;
  bool over_ = false;
};

}  // namespace krait::server
