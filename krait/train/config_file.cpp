// toml++ parses; everything else here works on ConfigNode.
#include "krait/train/config_file.h"

#include <toml++/toml.h>
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "krait/core/check.h"
#include "krait/formats/mapped_file.h"
#include "krait/train/parameter_values.h"

namespace krait::train {
namespace {

// Thrown inside the conversion alone.
struct Unusable {
  int line;
  std::string what;
};

ConfigNode converted(const toml::node& node) {
  ConfigNode out;
  out.line = static_cast<int>(node.source().begin.line);
  if (const auto* table = node.as_table()) {
    ConfigNode::Table entries;
    for (const auto& [key, value] : *table) entries.emplace_back(std::string(key.str()), converted(value));
    std::ranges::stable_sort(entries, {}, [](const auto& entry) { return entry.second.line; });
    out.value = std::move(entries);
  } else if (const auto* array = node.as_array()) {
    ConfigNode::Array items;
    for (const toml::node& item : *array) items.push_back(converted(item));
    out.value = std::move(items);
  } else if (const auto* boolean = node.as_boolean()) {
    out.value = boolean->get();
  } else if (const auto* integer = node.as_integer()) {
    out.value = integer->get();
  } else if (const auto* number = node.as_floating_point()) {
    out.value = number->get();
  } else if (const auto* text = node.as_string()) {
    out.value = text->get();
  } else {
    throw Unusable{out.line, "dates and times have no use here"};
  }
  return out;
}

std::string_view type_of(const ConfigNode& node) {
  static constexpr std::string_view kNames[] = {"true or false", "a whole number", "a number",
                                                "text",          "a list",         "a table"};
  return kNames[node.value.index()];
}

const ConfigNode::Table& entries_of(const ConfigNode& node) { return std::get<ConfigNode::Table>(node.value); }

ConfigNode* find_entry(ConfigNode& table, std::string_view key) {
  auto& entries = std::get<ConfigNode::Table>(table.value);
  const auto found = std::ranges::find(entries, key, &std::pair<std::string, ConfigNode>::first);
  return found == entries.end() ? nullptr : &found->second;
}

// As it was read, before anybody asked for it.
ConfigNode unasked(ConfigNode node) {
  node.asked = false;
  node.known_names.clear();
  if (auto* entries = std::get_if<ConfigNode::Table>(&node.value)) {
    for (auto& [key, entry] : *entries) entry = unasked(std::move(entry));
  } else if (auto* items = std::get_if<ConfigNode::Array>(&node.value)) {
    for (ConfigNode& item : *items) item = unasked(std::move(item));
  }
  return node;
}

void merge(ConfigNode& into, const ConfigNode& from, std::span<const std::string_view> except) {
  for (const auto& [key, change] : entries_of(from)) {
    if (std::ranges::find(except, key) != except.end()) continue;
    ConfigNode* found = find_entry(into, key);
    if (found == nullptr) {
      std::get<ConfigNode::Table>(into.value).emplace_back(key, unasked(change));
    } else if (std::holds_alternative<ConfigNode::Table>(found->value) &&
               std::holds_alternative<ConfigNode::Table>(change.value)) {
      merge(*found, change, {});
    } else {
      *found = unasked(change);
    }
  }
}

nlohmann::ordered_json json_of(const ConfigNode& node) {
  if (const auto* entries = std::get_if<ConfigNode::Table>(&node.value)) {
    auto object = nlohmann::ordered_json::object();
    for (const auto& [key, entry] : *entries) object[key] = json_of(entry);
    return object;
  }
  if (const auto* items = std::get_if<ConfigNode::Array>(&node.value)) {
    auto list = nlohmann::ordered_json::array();
    for (const ConfigNode& item : *items) list.push_back(json_of(item));
    return list;
  }
  if (const auto* boolean = std::get_if<bool>(&node.value)) return *boolean;
  if (const auto* whole = std::get_if<std::int64_t>(&node.value)) return *whole;
  if (const auto* number = std::get_if<double>(&node.value)) return *number;
  return std::get<std::string>(node.value);
}

std::string in_table(const std::string& path) { return path.empty() ? "" : fmt::format(" in [{}]", path); }

}  // namespace

Result<ConfigFile> ConfigFile::open(const std::filesystem::path& path) {
  KRAIT_ASSIGN(const formats::MappedFile file, formats::MappedFile::open(path));
  return parse({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, path.string());
}

Result<ConfigFile> ConfigFile::parse(std::string_view text, std::string origin) {
  ConfigFile file;
  file.origin_ = std::move(origin);
  try {
    file.root_ = std::make_unique<ConfigNode>(converted(toml::parse(text)));
  } catch (const toml::parse_error& error) {
    return fail(ErrorCode::kCorrupt, "[config] {}:{}: {}", file.origin_, error.source().begin.line,
                error.description());
  } catch (const Unusable& unusable) {
    return fail(ErrorCode::kCorrupt, "[config] {}:{}: {}", file.origin_, unusable.line, unusable.what);
  }
  return file;
}

ConfigFile ConfigFile::copy() const {
  ConfigFile file;
  file.origin_ = origin_;
  file.root_ = std::make_unique<ConfigNode>(unasked(*root_));
  return file;
}

void ConfigFile::put(std::string_view path, ConfigScalar value) {
  ConfigNode* table = root_.get();
  for (std::size_t dot = path.find('.'); dot != std::string_view::npos; dot = path.find('.')) {
    const std::string_view key = path.substr(0, dot);
    path.remove_prefix(dot + 1);
    ConfigNode* inner = find_entry(*table, key);
    if (inner == nullptr) {
      auto& entries = std::get<ConfigNode::Table>(table->value);
      inner = &entries.emplace_back(std::string(key), ConfigNode{}).second;
      inner->line = table->line;
    }
    if (!std::holds_alternative<ConfigNode::Table>(inner->value)) return;
    table = inner;
  }
  ConfigNode* found = find_entry(*table, path);
  if (found == nullptr) {
    found = &std::get<ConfigNode::Table>(table->value).emplace_back(std::string(path), ConfigNode{}).second;
    found->line = table->line;
  }
  std::visit([&](auto& scalar) { found->value = std::move(scalar); }, value);
}

void ConfigFile::put_over(const ConfigTable& changes, std::span<const std::string_view> except) {
  if (changes.node_ != nullptr) merge(*root_, *changes.node_, except);
}

void ConfigFile::remove(std::string_view key) {
  std::erase_if(std::get<ConfigNode::Table>(root_->value), [&](const auto& entry) { return entry.first == key; });
}

std::string ConfigFile::json() const { return json_of(*root_).dump(); }

void ConfigFile::complain(int line, std::string what) { complaints_.push_back({line, std::move(what)}); }

Result<void> ConfigFile::errors() const {
  if (complaints_.empty()) return {};
  const auto first = std::ranges::min_element(complaints_, {}, &Complaint::line);
  const std::string more = complaints_.size() == 1 ? "" : fmt::format(" (and {} more)", complaints_.size() - 1);
  return fail(ErrorCode::kInvalidArgument, "[config] {}:{}: {}{}", origin_, first->line, first->what, more);
}

void ConfigFile::find_unknown(const ConfigNode& table, const std::string& path) {
  for (const auto& [key, node] : entries_of(table)) {
    if (!node.asked) {
      std::vector<std::string_view> names(table.known_names.begin(), table.known_names.end());
      complain(node.line, fmt::format("nobody knows '{}'{}; there may be {}", key, in_table(path),
                                      names.empty() ? "nothing" : joined_names(names)));
      continue;
    }
    const std::string inner = path.empty() ? key : path + "." + key;
    if (std::holds_alternative<ConfigNode::Table>(node.value)) find_unknown(node, inner);
    if (const auto* items = std::get_if<ConfigNode::Array>(&node.value)) {
      for (const ConfigNode& item : *items) {
        if (std::holds_alternative<ConfigNode::Table>(item.value)) find_unknown(item, inner);
      }
    }
  }
}

Result<void> ConfigFile::finish() {
  find_unknown(*root_, "");
  return errors();
}

bool ConfigTable::has(std::string_view key) const { return node_ != nullptr && find_entry(*node_, key) != nullptr; }

bool ConfigTable::empty() const { return node_ == nullptr || entries_of(*node_).empty(); }

ConfigNode* ConfigTable::ask(std::string_view key) {
  if (node_ == nullptr) return nullptr;
  if (std::ranges::find(node_->known_names, key) == node_->known_names.end()) node_->known_names.emplace_back(key);
  ConfigNode* found = find_entry(*node_, key);
  if (found != nullptr) found->asked = true;
  return found;
}

template <class Wanted>
Wanted* ConfigTable::expect(std::string_view key, std::string_view type) {
  ConfigNode* found = ask(key);
  if (found == nullptr) return nullptr;
  auto* value = std::get_if<Wanted>(&found->value);
  if (value == nullptr) wrong(key, fmt::format("is {}, not {}", type_of(*found), type));
  return value;
}

void ConfigTable::wrong(std::string_view key, std::string_view what) {
  ConfigNode* found = node_ == nullptr ? nullptr : find_entry(*node_, key);
  const int line = found != nullptr ? found->line : node_ != nullptr ? node_->line : 1;
  file_->complain(line, fmt::format("'{}'{} {}", key, in_table(path_), what));
}

void ConfigTable::require(std::string_view key) {
  if (ask(key) == nullptr) wrong(key, "is missing");
}

void ConfigTable::read(std::string_view key, bool& value) {
  if (const auto* found = expect<bool>(key, "true or false")) value = *found;
}

void ConfigTable::read(std::string_view key, std::int64_t& value, std::int64_t low, std::int64_t high) {
  const auto* found = expect<std::int64_t>(key, "a whole number");
  if (found == nullptr) return;
  if (*found < low || *found > high) {
    wrong(key, fmt::format("is {}, not from {} to {}", *found, low, high));
  } else {
    value = *found;
  }
}

void ConfigTable::read(std::string_view key, std::uint64_t& value) {
  auto number = static_cast<std::int64_t>(0);
  if (!has(key)) {
    ask(key);
    return;
  }
  const std::size_t before = file_->complaints_.size();
  read(key, number, 0, std::numeric_limits<std::int64_t>::max());
  if (file_->complaints_.size() == before) value = static_cast<std::uint64_t>(number);
}

void ConfigTable::read(std::string_view key, double& value, double low, double high) {
  ConfigNode* found = ask(key);
  if (found == nullptr) return;
  double number;
  if (const auto* whole = std::get_if<std::int64_t>(&found->value)) {
    number = static_cast<double>(*whole);
  } else if (const auto* real = std::get_if<double>(&found->value)) {
    number = *real;
  } else {
    wrong(key, fmt::format("is {}, not a number", type_of(*found)));
    return;
  }
  if (number >= low && number <= high) {
    value = number;
  } else {
    wrong(key, fmt::format("is {}, not from {} to {}", number, low, high));
  }
}

void ConfigTable::read(std::string_view key, std::string& value) {
  if (const auto* found = expect<std::string>(key, "text")) value = *found;
}

void ConfigTable::read(std::string_view key, std::string& value, std::span<const std::string_view> choices) {
  const auto* found = expect<std::string>(key, "text");
  if (found == nullptr) return;
  if (std::ranges::find(choices, *found) != choices.end()) {
    value = *found;
  } else {
    wrong(key, fmt::format("is '{}'; there are {}", *found, joined_names({choices.begin(), choices.end()})));
  }
}

void ConfigTable::read(std::string_view key, std::vector<std::string>& value) {
  const auto* found = expect<ConfigNode::Array>(key, "a list of text");
  if (found == nullptr) return;
  std::vector<std::string> texts;
  for (const ConfigNode& item : *found) {
    const auto* text = std::get_if<std::string>(&item.value);
    if (text == nullptr) {
      wrong(key, fmt::format("has {} in it, not text", type_of(item)));
      return;
    }
    texts.push_back(*text);
  }
  value = std::move(texts);
}

void ConfigTable::read(std::string_view key, std::vector<double>& value, double low, double high) {
  const auto* found = expect<ConfigNode::Array>(key, "a list of numbers");
  if (found == nullptr) return;
  std::vector<double> numbers;
  for (const ConfigNode& item : *found) {
    const auto* whole = std::get_if<std::int64_t>(&item.value);
    const auto* real = std::get_if<double>(&item.value);
    if (whole == nullptr && real == nullptr) {
      wrong(key, fmt::format("has {} in it, not a number", type_of(item)));
      return;
    }
    numbers.push_back(whole != nullptr ? static_cast<double>(*whole) : *real);
    if (!(numbers.back() >= low && numbers.back() <= high)) {
      wrong(key, fmt::format("has {} in it, not from {} to {}", numbers.back(), low, high));
      return;
    }
  }
  value = std::move(numbers);
}

void ConfigTable::read(std::string_view key, std::vector<std::int64_t>& value, std::int64_t low, std::int64_t high) {
  const auto* found = expect<ConfigNode::Array>(key, "a list of whole numbers");
  if (found == nullptr) return;
  std::vector<std::int64_t> numbers;
  for (const ConfigNode& item : *found) {
    const auto* whole = std::get_if<std::int64_t>(&item.value);
    if (whole == nullptr || *whole < low || *whole > high) {
      wrong(key, whole == nullptr ? fmt::format("has {} in it, not a whole number", type_of(item))
                                  : fmt::format("has {} in it, not from {} to {}", *whole, low, high));
      return;
    }
    numbers.push_back(*whole);
  }
  value = std::move(numbers);
}

std::vector<std::string> ConfigTable::keys() const {
  std::vector<std::string> keys;
  if (node_ == nullptr) return keys;
  for (const auto& entry : entries_of(*node_)) keys.push_back(entry.first);
  return keys;
}

ConfigTable ConfigTable::table(std::string_view key) {
  const std::string path = path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
  ConfigNode* found = ask(key);
  if (found != nullptr && expect<ConfigNode::Table>(key, "a table") == nullptr) found = nullptr;
  return {file_, found, path};
}

std::vector<ConfigTable> ConfigTable::tables(std::string_view key) {
  const std::string path = path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
  ConfigNode* found = ask(key);
  if (found == nullptr) return {};
  if (std::holds_alternative<ConfigNode::Table>(found->value)) return {ConfigTable(file_, found, path)};
  auto* items = expect<ConfigNode::Array>(key, "a list of tables");
  std::vector<ConfigTable> tables;
  if (items == nullptr) return tables;
  for (ConfigNode& item : *items) {
    if (!std::holds_alternative<ConfigNode::Table>(item.value)) {
      wrong(key, fmt::format("has {} in it, not a table", type_of(item)));
      return {};
    }
    tables.push_back(ConfigTable(file_, &item, path));
  }
  return tables;
}

}  // namespace krait::train
