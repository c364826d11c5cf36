#include "krait/load/stream_reader.h"

#include <algorithm>
#include <charconv>

namespace krait::load {
namespace {

constexpr std::size_t kMostHead = 64 << 10;
constexpr std::size_t kMostBody = 64 << 20;

bool same_word(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
  while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
  return text;
}

}  // namespace

Result<void> StreamReader::read_head(std::string_view head) {
  const std::string_view first = head.substr(0, head.find("\r\n"));
  const std::size_t space = first.find(' ');
  if (!first.starts_with("HTTP/1.") || space == std::string_view::npos ||
      std::from_chars(first.data() + space + 1, first.data() + first.size(), status_).ec != std::errc() ||
      status_ < 100 || status_ > 999) {
    return fail(ErrorCode::kCorrupt, "[http] the answer begins with \"{}\"", first.substr(0, 60));
  }
  bool chunked = false, counted = false;
  keep_alive_ = first.starts_with("HTTP/1.1");
  for (head.remove_prefix(std::min(first.size() + 2, head.size())); !head.empty();) {
    const std::string_view line = head.substr(0, head.find("\r\n"));
    head.remove_prefix(std::min(line.size() + 2, head.size()));
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return fail(ErrorCode::kCorrupt, "[http] a header without a colon");
    const std::string_view name = line.substr(0, colon), value = trimmed(line.substr(colon + 1));
    if (same_word(name, "content-length")) {
      const auto [end, ec] = std::from_chars(value.data(), value.data() + value.size(), left_);
      if (ec != std::errc() || end != value.data() + value.size() || left_ > kMostBody) {
        return fail(ErrorCode::kCorrupt, "[http] a body of {} bytes", value);
      }
      counted = true;
    } else if (same_word(name, "transfer-encoding")) {
      chunked = same_word(value, "chunked");
    } else if (same_word(name, "connection")) {
      if (same_word(value, "close")) keep_alive_ = false;
    } else if (same_word(name, "content-type")) {
      events_ = same_word(value.substr(0, value.find(';')), "text/event-stream");
    }
  }
  if (status_ < 200) {
    stage_ = Stage::head;  // 100 Continue: the answer follows
  } else if (chunked) {
    stage_ = Stage::chunk_size;
  } else if (status_ == 204 || status_ == 304 || (counted && left_ == 0)) {
    stage_ = Stage::done;
  } else if (counted) {
    stage_ = Stage::counted;
  } else {
    stage_ = Stage::to_the_end;
    keep_alive_ = false;
  }
  return {};
}

Result<void> StreamReader::take_body(std::string_view bytes) {
  if (body_.size() + bytes.size() > kMostBody) return fail(ErrorCode::kCorrupt, "[http] an answer without an end");
  body_ += bytes;
  if (!events_) return {};
  std::size_t at = 0;
  for (std::size_t end = 0; (end = body_.find("\n\n", at)) != std::string::npos; at = end + 2) {
    const std::string_view event = std::string_view(body_).substr(at, end - at);
    constexpr std::string_view kData = "data: ";
    if (event.starts_with(kData) && on_event_) on_event_(event.substr(kData.size()));
  }
  body_.erase(0, at);
  return {};
}

Result<bool> StreamReader::take_line(std::string_view& line) {
  const std::size_t end = line.find("\r\n");
  if (end == std::string_view::npos) {
    if (line.size() > kMostHead) return fail(ErrorCode::kCorrupt, "[http] a line without an end");
    return false;
  }
  line = line.substr(0, end);
  return true;
}

Result<void> StreamReader::feed(std::string_view bytes) {
  waiting_ += bytes;
  std::size_t used = 0;
  const auto rest = [&] { return std::string_view(waiting_).substr(used); };
  while (true) {
    if (stage_ == Stage::done) {
      if (!rest().empty()) return fail(ErrorCode::kCorrupt, "[http] {} bytes behind the answer", rest().size());
      break;
    }
    if (rest().empty()) break;
    if (stage_ == Stage::head) {
      const std::size_t end = rest().find("\r\n\r\n");
      if (end == std::string_view::npos) {
        if (rest().size() > kMostHead) return fail(ErrorCode::kCorrupt, "[http] a head without an end");
        break;
      }
      KRAIT_TRY(read_head(rest().substr(0, end)));
      used += end + 4;
    } else if (stage_ == Stage::to_the_end) {
      KRAIT_TRY(take_body(rest()));
      used = waiting_.size();
    } else if (stage_ == Stage::counted || stage_ == Stage::chunk) {
      const std::size_t count = static_cast<std::size_t>(std::min<std::uint64_t>(left_, rest().size()));
      KRAIT_TRY(take_body(rest().substr(0, count)));
      used += count;
      left_ -= count;
      if (left_ == 0) stage_ = stage_ == Stage::counted ? Stage::done : Stage::chunk_end;
    } else {
      std::string_view line = rest();
      KRAIT_ASSIGN(const bool whole, take_line(line));
      if (!whole) break;
      if (stage_ == Stage::chunk_size) {
        const auto [end, ec] = std::from_chars(line.data(), line.data() + line.size(), left_, 16);
        if (ec != std::errc() || left_ > kMostBody) return fail(ErrorCode::kCorrupt, "[http] a chunk of size {}", line);
        stage_ = left_ == 0 ? Stage::trailer : Stage::chunk;
      } else if (stage_ == Stage::chunk_end) {
        if (!line.empty()) return fail(ErrorCode::kCorrupt, "[http] a chunk is longer than it says");
        stage_ = Stage::chunk_size;
      } else if (line.empty()) {
        stage_ = Stage::done;
      }
      used += line.size() + 2;
    }
  }
  waiting_.erase(0, used);
  return {};
}

Result<void> StreamReader::end() {
  if (stage_ == Stage::to_the_end) stage_ = Stage::done;
  if (stage_ == Stage::done) return {};
  return fail(ErrorCode::kInputOutput, "[http] the connection ended before the answer did");
}

}  // namespace krait::load
