#include "krait/server/embedding_task.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace krait::server {

class EmbeddingTask::Sink final : public GenerationSink {
 public:
  Sink(std::shared_ptr<EmbeddingTask> task, std::size_t index) : task_(std::move(task)), index_(index) {}
  void started(GenerationStarted) override {}
  void token(GeneratedToken) override {}
  void finished(GenerationFinished event) override { task_->finished(index_, std::move(event)); }
  void failed(Error error) override { task_->fail(error_of(error)); }

 private:
  const std::shared_ptr<EmbeddingTask> task_;
  const std::size_t index_;
};

void EmbeddingTask::start() {
  result_.model = plan_.model;
  result_.vectors.resize(plan_.inputs.size());
  next_ = std::min(kAtOnce, plan_.inputs.size());
  exchange_->on_gone([weak = weak_from_this()] {
    if (const auto task = weak.lock()) task->cancel();
  });
  for (std::size_t i = 0, first = next_; i < first; ++i) submit(i);
}

void EmbeddingTask::submit(std::size_t index) {
  {
    const std::lock_guard lock(mutex_);
    if (over_) return;
  }
  GenerationRequest request;
  request.prompt = std::move(plan_.inputs[index]);
  request.pooling = plan_.pooling;
  request.key = plan_.key;
  request.priority = plan_.priority;
  const auto id = generator_.submit(std::move(request), std::make_shared<Sink>(shared_from_this(), index));
  if (!id) return fail(error_of(id.error()));
  bool cancel = false;
  {
    const std::lock_guard lock(mutex_);
    ids_.push_back(*id);
    cancel = over_;
  }
  if (cancel) generator_.cancel(*id);
}

void EmbeddingTask::finished(std::size_t index, GenerationFinished event) {
  std::optional<std::size_t> more;
  {
    const std::lock_guard lock(mutex_);
    if (over_) return;
    normalise(event.embedding);
    result_.vectors[index] = std::move(event.embedding);
    result_.prompt_tokens += event.prompt_tokens;
    if (next_ < plan_.inputs.size()) more = next_++;
    over_ = ++done_ == plan_.inputs.size();
    if (!over_ && !more) return;
  }
  if (more) return submit(*more);
  result_.seconds = std::chrono::duration<double>(GenerationClock::now() - begun_).count();
  exchange_->note("tokens", fmt::format("{}+0", result_.prompt_tokens));
  exchange_->respond({.body = plan_.body(result_)});
}

void EmbeddingTask::fail(const ApiError& error) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(over_, true)) return;
  }
  exchange_->note("error", error.log.empty() ? error.message : error.log);
  exchange_->respond(plan_.write_error(error));
  cancel();
}

void EmbeddingTask::cancel() {
  std::vector<GenerationId> ids;
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
    ids = ids_;
  }
  for (const GenerationId id : ids) generator_.cancel(id);
}

}  // namespace krait::server
