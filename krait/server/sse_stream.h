// Server-sent events (WHATWG HTML, "Server-sent events"), of which clients of OpenAI's API read the data lines.
#pragma once

#include <string>
#include <string_view>

namespace krait::server {

inline constexpr std::string_view kEventStream = "text/event-stream; charset=utf-8";

// One event. `data` must have no line breaks, which JSON on one line has not.
inline std::string sse_event(std::string_view data) {
  std::string text;
  text.reserve(data.size() + 8);
  text.append("data: ").append(data).append("\n\n");
  return text;
}

// What ends OpenAI's streams.
inline std::string sse_done() { return sse_event("[DONE]"); }

}  // namespace krait::server
