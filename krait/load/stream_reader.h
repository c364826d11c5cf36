// The bytes of an HTTP answer as they come, in pieces of any size: head, body by length, in chunks or to the end of the
// connection, and in a body of server-sent events each event's data.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "krait/core/error.h"

namespace krait::load {

class StreamReader {
 public:
  // Called with the data of each event of an event stream.
  using OnEvent = std::function<void(std::string_view data)>;
  explicit StreamReader(OnEvent on_event = {}) : on_event_(std::move(on_event)) {}

  // kCorrupt: no HTTP, or more than a client should hold. Bytes behind the answer are an error too.
  Result<void> feed(std::string_view bytes);
  // The connection was closed: the end of a body without a length, otherwise a torn answer.
  Result<void> end();

  bool begun() const { return stage_ != Stage::head || !waiting_.empty(); }
  bool done() const { return stage_ == Stage::done; }
  int status() const { return status_; }
  bool keep_alive() const { return keep_alive_; }
  const std::string& body() const { return body_; }  // of answers that are no event stream

 private:
  enum class Stage { head, counted, to_the_end, chunk_size, chunk, chunk_end, trailer, done };
  Result<void> read_head(std::string_view head);
  Result<void> take_body(std::string_view bytes);
  Result<bool> take_line(std::string_view& line);  // false: not whole yet

  OnEvent on_event_;
  Stage stage_ = Stage::head;
  std::string waiting_;  // bytes that are not taken yet
  int status_ = 0;
  bool keep_alive_ = true;
  bool events_ = false;
  std::uint64_t left_ = 0;  // of the body or the chunk
  std::string body_;        // of an event stream: of the event that is not whole
};

}  // namespace krait::load
