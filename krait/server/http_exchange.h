// The queue between those who answer a request and the connection that writes the answer. Bounded: a reader that is so
// slow that more than the limit waits for it is given up.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "krait/server/http_message.h"

namespace krait::server {

class QueuedExchange final : public Exchange {
 public:
  // `wake` tells the connection that there is something to take; on any thread.
  QueuedExchange(HttpRequest request, std::size_t limit, std::function<void()> wake)
      : request_(std::move(request)), limit_(limit), wake_(std::move(wake)) {}

  const HttpRequest& request() const override { return request_; }
  void respond(HttpAnswer answer) override;
  void begin(HttpAnswer head) override;
  bool send(std::string_view piece) override;
  void end() override;
  void cut() override;
  void on_gone(std::function<void()> act) override;
  void note(std::string_view name, std::string_view value) override;

  // The connection's side.
  struct Taken {
    std::optional<HttpAnswer> head;  // once; `streamed` says whether pieces follow it
    bool streamed = false;
    std::string pieces;
    bool last = false;      // nothing follows
    bool given_up = false;  // cut the connection
  };
  // What waited. What was taken before counts as written.
  Taken take();
  // The client is gone, or the whole answer was written.
  void close(bool complete);
  std::vector<HttpHeader> notes() const;
  bool begun() const;
  bool given_up() const;

 private:
  enum class Stage { waiting, streaming, ended, gone };

  const HttpRequest request_;
  const std::size_t limit_;
  const std::function<void()> wake_;

  mutable std::mutex mutex_;
  Stage stage_ = Stage::waiting;
  bool head_given_ = false;
  std::optional<HttpAnswer> head_;
  bool streamed_ = false;
  std::string pieces_;
  std::size_t being_written_ = 0;
  std::function<void()> on_gone_;
  std::vector<HttpHeader> notes_;
};

}  // namespace krait::server
