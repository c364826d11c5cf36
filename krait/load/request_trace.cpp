#include "krait/load/request_trace.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <optional>

namespace krait::load {
namespace {

constexpr std::int64_t kMostTokens = std::int64_t{1} << 30;

template <class Number>
bool take_number(std::string_view& text, Number& value) {
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc()) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

bool take(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

std::optional<double> seconds_of(std::string_view text) {
  std::string_view rest = text;
  double seconds = 0;
  if (take_number(rest, seconds) && rest.empty() && std::isfinite(seconds)) return seconds;
  rest = text;
  int year = 0, hour = 0, minute = 0;
  unsigned month = 0, day = 0;
  const bool whole = take_number(rest, year) && take(rest, '-') && take_number(rest, month) && take(rest, '-') &&
                     take_number(rest, day) && (take(rest, ' ') || take(rest, 'T')) && take_number(rest, hour) &&
                     take(rest, ':') && take_number(rest, minute) && take(rest, ':') && take_number(rest, seconds);
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(month), std::chrono::day(day)};
  if (!whole || !rest.empty() || !date.ok() || hour < 0 || hour > 23 || minute < 0 || minute > 59) return std::nullopt;
  const auto days = std::chrono::sys_days(date).time_since_epoch().count();
  return static_cast<double>(days) * 86400 + hour * 3600 + minute * 60 + seconds;
}

std::vector<std::string_view> fields_of(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  std::vector<std::string_view> fields;
  while (true) {
    const std::size_t comma = line.find(',');
    fields.push_back(line.substr(0, comma));
    if (comma == std::string_view::npos) return fields;
    line.remove_prefix(comma + 1);
  }
}

}  // namespace

Result<std::vector<TracedRequest>> read_trace(std::string_view text, std::string_view origin) {
  std::vector<TracedRequest> requests;
  std::optional<std::size_t> time, prompt, reply;
  for (int number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    const auto fields = fields_of(line);
    if (number == 1) {
      for (std::size_t i = 0; i < fields.size(); ++i) {
        if (fields[i] == "TIMESTAMP") time = i;
        if (fields[i] == "ContextTokens") prompt = i;
        if (fields[i] == "GeneratedTokens") reply = i;
      }
      if (!time || !prompt || !reply) {
        return fail(ErrorCode::kCorrupt,
                    "[trace] the first line names no TIMESTAMP, ContextTokens, GeneratedTokens ({})", origin);
      }
      continue;
    }
    if (line.empty() || line == "\r") continue;
    TracedRequest request;
    const auto tokens = [](std::string_view field, std::int64_t& value) {
      return take_number(field, value) && field.empty() && value >= 0 && value <= kMostTokens;
    };
    if (fields.size() <= std::max({*time, *prompt, *reply})) {
      return fail(ErrorCode::kCorrupt, "[trace] line {} has {} fields ({})", number, fields.size(), origin);
    }
    const auto at = seconds_of(fields[*time]);
    if (!at || !tokens(fields[*prompt], request.prompt_tokens) || !tokens(fields[*reply], request.reply_tokens)) {
      return fail(ErrorCode::kCorrupt, "[trace] line {} is no time and two numbers of tokens: \"{}\" ({})", number,
                  line.substr(0, 100), origin);
    }
    request.at = *at;
    requests.push_back(request);
  }
  if (requests.empty()) return fail(ErrorCode::kCorrupt, "[trace] holds no requests ({})", origin);
  std::ranges::stable_sort(requests, {}, &TracedRequest::at);
  const double first = requests.front().at;
  for (TracedRequest& request : requests) request.at -= first;
  return requests;
}

}  // namespace krait::load
