// JSON text to flat typed keys (RFC 8259, plus the bare words Infinity, -Infinity and NaN, which Python's json
// writes for floats). Built on the event interface of the JSON library, so that depth, doubled keys and the total
// length of the flattened keys are limited while the text is read and not after a tree of it was built.
#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "krait/formats/config.h"

namespace krait::formats {
namespace {

constexpr std::size_t kMaximumDepth = 64;
// Real configurations take a few kB, the index of the largest sharded checkpoints a few MB.
constexpr std::size_t kMaximumTextBytes = std::size_t{32} << 20;
// A long key round many small values is repeated for each of them: without this bound, 1 MB of text could ask
// for 100 GB of keys.
constexpr std::size_t kMaximumKeyBytes = std::size_t{64} << 20;

// JSON has no word for these numbers. Each is spelled as a zero that nobody would write, and recognised by spelling.
constexpr std::string_view kInfinitySpelling = "0.000e-0000000001";
constexpr std::string_view kNanSpelling = "0.000e-0000000002";

bool continues_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' || c == '+';
}

// Replaces Infinity and NaN outside strings. A minus before Infinity stays where it is.
std::string spell_special_numbers(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  bool in_string = false;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\' && i + 1 < text.size()) result += text[i++];
      in_string = c != '"';
      result += text[i++];
      continue;
    }
    in_string = c == '"';
    bool replaced = false;
    for (const auto& [word, spelling] : {std::pair<std::string_view, std::string_view>{"Infinity", kInfinitySpelling},
                                         std::pair<std::string_view, std::string_view>{"NaN", kNanSpelling}}) {
      if (!text.substr(i).starts_with(word)) continue;
      const bool starts = i == 0 || !continues_word(text[i - 1]);
      const bool ends = i + word.size() == text.size() || !continues_word(text[i + word.size()]);
      if (!starts || !ends) continue;
      result += spelling;
      i += word.size();
      replaced = true;
      break;
    }
    if (!replaced) result += text[i++];
  }
  return result;
}

template <class T>
bool all_are(const std::vector<Config::Value>& values) {
  for (const Config::Value& value : values) {
    if (!std::holds_alternative<T>(value)) return false;
  }
  return true;
}

template <class T>
Config::Value vector_of(std::vector<Config::Value>& values) {
  std::vector<T> result;
  result.reserve(values.size());
  for (Config::Value& value : values) result.push_back(std::get<T>(std::move(value)));
  return result;
}

// Receives the events of the parser. Every method returns whether to go on.
class Flattener : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Flattener(Config& config) : config_(config) {}

  const std::string& problem() const { return problem_; }

  bool null() override { return scalar(std::monostate{}); }
  bool boolean(bool value) override { return scalar(value); }
  bool number_integer(std::int64_t value) override { return scalar(value); }
  bool number_unsigned(std::uint64_t value) override {
    // transformers writes int(1e30) for "no limit": what no int64 holds is kept as a number.
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return scalar(static_cast<double>(value));
    }
    return scalar(static_cast<std::int64_t>(value));
  }
  bool number_float(double value, const std::string& spelling) override {
    const bool negative = spelling.starts_with('-');
    const std::string_view unsigned_part = std::string_view(spelling).substr(negative ? 1 : 0);
    if (unsigned_part == kInfinitySpelling) {
      value = std::numeric_limits<double>::infinity();
      if (negative) value = -value;
    } else if (unsigned_part == kNanSpelling) {
      value = std::numeric_limits<double>::quiet_NaN();
    }
    return scalar(value);
  }
  bool string(std::string& value) override { return scalar(std::move(value)); }
  bool binary(nlohmann::json::binary_t&) override { return stop("holds binary data"); }

  bool start_object(std::size_t) override { return open(false); }
  bool key(std::string& name) override {
    frames_.back().child = std::move(name);
    return true;
  }
  bool end_object() override {
    frames_.pop_back();
    return true;
  }
  bool start_array(std::size_t) override {
    if (frames_.empty()) return stop("is not an object at its top level");
    return open(true);
  }
  bool end_array() override {
    Frame frame = std::move(frames_.back());
    frames_.pop_back();
    std::vector<Config::Value>& values = frame.scalars;
    if (frame.has_nested) return spill(frame);
    if (values.empty()) return store(frame.prefix, std::vector<std::int64_t>{});
    if (all_are<std::int64_t>(values)) return store(frame.prefix, vector_of<std::int64_t>(values));
    if (all_are<bool>(values)) return store(frame.prefix, vector_of<bool>(values));
    if (all_are<std::string>(values)) return store(frame.prefix, vector_of<std::string>(values));
    std::vector<double> numbers;
    for (const Config::Value& value : values) {
      if (const auto* number = std::get_if<double>(&value)) numbers.push_back(*number);
      if (const auto* integer = std::get_if<std::int64_t>(&value)) numbers.push_back(static_cast<double>(*integer));
    }
    if (numbers.size() == values.size()) return store(frame.prefix, std::move(numbers));
    return spill(frame);
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    return stop(fmt::format("is not JSON at byte {}: {:.200}", position, error.what()));
  }

 private:
  struct Frame {
    bool is_array = false;
    bool has_nested = false;             // an array that holds arrays or objects
    std::string prefix;                  // key of this object or array
    std::string child;                   // key of the value that comes next, objects only
    std::vector<Config::Value> scalars;  // of an array; `indices` are their places in it
    std::vector<std::size_t> indices;
    std::size_t next_index = 0;
  };

  bool stop(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
    return false;
  }

  static std::string join(const std::string& prefix, std::string_view child) {
    return prefix.empty() ? std::string(child) : fmt::format("{}.{}", prefix, child);
  }

  bool open(bool is_array) {
    if (frames_.size() == kMaximumDepth) return stop(fmt::format("is nested deeper than {}", kMaximumDepth));
    Frame frame;
    frame.is_array = is_array;
    if (!frames_.empty()) {
      Frame& parent = frames_.back();
      if (parent.is_array) {
        parent.has_nested = true;
        frame.prefix = join(parent.prefix, std::to_string(parent.next_index++));
      } else {
        frame.prefix = join(parent.prefix, parent.child);
      }
      if (!count_key(frame.prefix)) return false;
    }
    frames_.push_back(std::move(frame));
    return true;
  }

  bool scalar(Config::Value value) {
    if (frames_.empty()) return stop("is not an object at its top level");
    Frame& frame = frames_.back();
    if (!frame.is_array) return store(join(frame.prefix, frame.child), std::move(value));
    frame.scalars.push_back(std::move(value));
    frame.indices.push_back(frame.next_index++);
    return true;
  }

  // Keeps the scalars of an array that fits no vector under indexed keys.
  bool spill(Frame& frame) {
    for (std::size_t i = 0; i < frame.scalars.size(); ++i) {
      if (!store(join(frame.prefix, std::to_string(frame.indices[i])), std::move(frame.scalars[i]))) return false;
    }
    return true;
  }

  bool count_key(const std::string& key) {
    key_bytes_ += key.size();
    if (key_bytes_ <= kMaximumKeyBytes) return true;
    return stop(fmt::format("has nested keys of more than {} bytes together", kMaximumKeyBytes));
  }

  bool store(const std::string& key, Config::Value value) {
    if (!count_key(key)) return false;
    if (config_.find(key) != nullptr) return stop(fmt::format("has the key \"{}\" twice", key));
    config_.set(key, std::move(value));
    return true;
  }

  Config& config_;
  std::vector<Frame> frames_;
  std::size_t key_bytes_ = 0;
  std::string problem_;
};

}  // namespace

Result<Config> Config::parse_json(std::string_view text, std::string origin) {
  if (text.size() > kMaximumTextBytes) {
    return fail(ErrorCode::kCorrupt, "[config] file is too large for a configuration: {} > {} bytes ({})", text.size(),
                kMaximumTextBytes, origin);
  }
  Config config(std::move(origin));
  Flattener flattener(config);
  const std::string plain = spell_special_numbers(text);
  if (!nlohmann::json::sax_parse(plain, &flattener)) {
    return fail(ErrorCode::kCorrupt, "[config] file {} ({})", flattener.problem(), config.origin());
  }
  return config;
}

Result<std::string> Config::to_json() const {
  nlohmann::json root = nlohmann::json::object();
  for (const auto& [key, value] : values_) {
    nlohmann::json* place = &root;
    for (std::size_t from = 0; from != std::string::npos;) {
      const std::size_t dot = key.find('.', from);
      if (!place->is_object() && !place->is_null()) break;
      place = &(*place)[key.substr(from, dot == std::string::npos ? dot : dot - from)];
      from = dot == std::string::npos ? dot : dot + 1;
    }
    if (!place->is_null()) {
      return fail(ErrorCode::kInvalidArgument, "[config] the key \"{}\" is also an object or within a value ({})", key,
                  origin_);
    }
    const auto finite = [](double number) { return std::isfinite(number); };
    const auto* number = std::get_if<double>(&value);
    const auto* numbers = std::get_if<std::vector<double>>(&value);
    if ((number != nullptr && !finite(*number)) || (numbers != nullptr && !std::ranges::all_of(*numbers, finite))) {
      return fail(ErrorCode::kInvalidArgument, "[config] {} is no number that JSON can hold ({})", key, origin_);
    }
    std::visit(
        [&](const auto& kind) {
          if constexpr (!std::is_same_v<std::decay_t<decltype(kind)>, std::monostate>) *place = kind;
        },
        value);
  }
  try {
    return root.dump(2) + "\n";
  } catch (const nlohmann::json::type_error&) {
    return fail(ErrorCode::kInvalidArgument, "[config] a text is not UTF-8 ({})", origin_);
  }
}

}  // namespace krait::formats
