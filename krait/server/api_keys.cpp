#include "krait/server/api_keys.h"

#include <algorithm>
#include <charconv>

namespace krait::server {
namespace {

constexpr std::size_t kShortestKey = 8;

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  constexpr std::string_view kSpace = " \t\r";
  for (std::size_t at = line.find_first_not_of(kSpace); at != std::string_view::npos;
       at = line.find_first_not_of(kSpace, at)) {
    const std::size_t end = std::min(line.find_first_of(kSpace, at), line.size());
    words.push_back(line.substr(at, end - at));
    at = end;
  }
  return words;
}

template <class Number>
bool read_number(std::string_view text, Number& number) {
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
  return ec == std::errc() && end == text.data() + text.size();
}

bool read_limit(std::string_view word, KeyLimits& limits) {
  const std::size_t equals = word.find('=');
  if (equals == std::string_view::npos) return false;
  const std::string_view name = word.substr(0, equals), value = word.substr(equals + 1);
  if (name == "requests") return read_number(value, limits.requests) && limits.requests > 0;
  if (name == "states") return read_number(value, limits.states) && limits.states >= 0;
  if (name == "state_bytes") return read_number(value, limits.state_bytes);
  if (name == "priority") return read_number(value, limits.priority);
  if (name == "admin") {
    limits.admin = value == "1";
    return limits.admin || value == "0";
  }
  return false;
}

// Looks at every character, however early they differ.
bool same(std::string_view secret, std::string_view given) {
  unsigned difference = secret.size() == given.size() ? 0 : 1;
  for (std::size_t i = 0; i < secret.size(); ++i) {
    const char other = i < given.size() ? given[i] : '\0';
    difference |= static_cast<unsigned char>(secret[i]) ^ static_cast<unsigned char>(other);
  }
  return difference == 0;
}

}  // namespace

Result<void> ApiKeys::add(std::string name, std::string key, KeyLimits limits) {
  if (name.empty()) return fail(ErrorCode::kInvalidArgument, "[keys] a key without a name");
  if (key.size() < kShortestKey) {
    return fail(ErrorCode::kInvalidArgument, "[keys] the key of {} has {} characters; {} are the fewest", name,
                key.size(), kShortestKey);
  }
  for (const Key& other : keys_) {
    if (other.name == name || other.secret == key) {
      return fail(ErrorCode::kInvalidArgument, "[keys] {} and {} have a name or a key in common", other.name, name);
    }
  }
  keys_.push_back({std::move(name), std::move(key), limits});
  return {};
}

Result<void> ApiKeys::add_lines(std::string_view text, std::string_view origin) {
  for (int number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    const auto words = words_of(line.substr(0, line.find('#')));
    if (words.empty()) continue;
    if (words.size() < 2) {
      return fail(ErrorCode::kCorrupt, "[keys] line {} has a name and no key ({})", number, origin);
    }
    KeyLimits limits = defaults_;
    limits.admin = false;
    for (std::size_t i = 2; i < words.size(); ++i) {
      if (!read_limit(words[i], limits)) {
        return fail(
            ErrorCode::kCorrupt,
            "[keys] line {}: \"{}\" is none of requests=, states=, state_bytes=, priority= with a number, admin=1 ({})",
            number, words[i], origin);
      }
    }
    if (auto added = add(std::string(words[0]), std::string(words[1]), limits); !added) {
      return fail(ErrorCode::kCorrupt, "{} (line {} of {})", added.error().message, number, origin);
    }
  }
  return {};
}

std::optional<std::string> ApiKeys::name_of(std::string_view authorization, std::string_view api_key) const {
  if (!required()) return std::string();
  constexpr std::string_view kBearer = "bearer ";
  std::string_view given = api_key;
  if (authorization.size() > kBearer.size() &&
      std::ranges::equal(authorization.substr(0, kBearer.size()), kBearer, [](char a, char b) {
        return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b;
      })) {
    given = authorization.substr(kBearer.size());
  }
  std::optional<std::string> name;
  for (const Key& key : keys_) {
    if (same(key.secret, given)) name = key.name;
  }
  return name;
}

KeyLimits ApiKeys::limits_of(const std::string& name) const {
  for (const Key& key : keys_) {
    if (key.name == name) return key.limits;
  }
  return defaults_;
}

bool ApiKeys::begin(const std::string& name) {
  const std::int64_t most = limits_of(name).requests;
  const std::lock_guard lock(mutex_);
  std::int64_t& active = active_[name];
  if (active >= most) return false;
  ++active;
  return true;
}

void ApiKeys::end(const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (const auto found = active_.find(name); found != active_.end() && --found->second == 0) active_.erase(found);
}

}  // namespace krait::server
