#include "krait/server/http_exchange.h"

#include "krait/core/check.h"

namespace krait::server {

void QueuedExchange::respond(HttpAnswer answer) {
  {
    const std::lock_guard lock(mutex_);
    if (stage_ == Stage::gone) return;
    KRAIT_CHECK(!head_given_, "a second answer to request {}", request_.id);
    head_given_ = true;
    head_ = std::move(answer);
    stage_ = Stage::ended;
  }
  wake_();
}

void QueuedExchange::begin(HttpAnswer head) {
  {
    const std::lock_guard lock(mutex_);
    if (stage_ == Stage::gone) return;
    KRAIT_CHECK(!head_given_, "a second answer to request {}", request_.id);
    head_given_ = true;
    head_ = std::move(head);
    streamed_ = true;
    stage_ = Stage::streaming;
  }
  wake_();
}

bool QueuedExchange::send(std::string_view piece) {
  std::function<void()> gone;
  bool taken = false;
  {
    const std::lock_guard lock(mutex_);
    if (stage_ != Stage::streaming) return false;
    taken = pieces_.size() + being_written_ + piece.size() <= limit_;
    if (taken) {
      pieces_ += piece;
    } else {
      stage_ = Stage::gone;
      gone = std::move(on_gone_);
    }
  }
  wake_();
  if (gone) gone();
  return taken;
}

void QueuedExchange::end() {
  {
    const std::lock_guard lock(mutex_);
    if (stage_ != Stage::streaming) return;
    stage_ = Stage::ended;
  }
  wake_();
}

void QueuedExchange::cut() {
  {
    const std::lock_guard lock(mutex_);
    stage_ = Stage::gone;
    on_gone_ = nullptr;
  }
  wake_();
}

void QueuedExchange::on_gone(std::function<void()> act) {
  {
    const std::lock_guard lock(mutex_);
    if (stage_ != Stage::gone) {
      on_gone_ = std::move(act);
      return;
    }
  }
  act();
}

void QueuedExchange::note(std::string_view name, std::string_view value) {
  const std::lock_guard lock(mutex_);
  notes_.push_back({std::string(name), std::string(value)});
}

QueuedExchange::Taken QueuedExchange::take() {
  const std::lock_guard lock(mutex_);
  Taken taken;
  taken.given_up = stage_ == Stage::gone;
  taken.head = std::move(head_);
  head_.reset();
  taken.streamed = streamed_;
  taken.pieces = std::move(pieces_);
  pieces_.clear();
  being_written_ = taken.pieces.size();
  taken.last = stage_ == Stage::ended;
  return taken;
}

void QueuedExchange::close(bool complete) {
  std::function<void()> gone;
  {
    const std::lock_guard lock(mutex_);
    if (!complete) gone = std::move(on_gone_);
    on_gone_ = nullptr;
    stage_ = Stage::gone;
  }
  if (gone) gone();
}

std::vector<HttpHeader> QueuedExchange::notes() const {
  const std::lock_guard lock(mutex_);
  return notes_;
}

bool QueuedExchange::begun() const {
  const std::lock_guard lock(mutex_);
  return head_given_;
}

bool QueuedExchange::given_up() const {
  const std::lock_guard lock(mutex_);
  return stage_ == Stage::gone;
}

}  // namespace krait::server
