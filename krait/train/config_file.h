// A configuration in TOML (toml.io, version 1.0), read key by key into what a program has already: a key that is absent
// leaves its value as it was. Whatever is wrong is said with file and line: a key that nobody asked for, a value of
// another type or outside its bounds.
//
//   KRAIT_ASSIGN(ConfigFile file, ConfigFile::open(path));
//   ConfigTable data = file.table("data");          // [data]
//   data.read("batch", options.batch, 1, 65536);
//   data.read("seed", options.seed);
//   …                                               // others read tables of their own
//   KRAIT_TRY(file.finish());                       // the first thing that was wrong, unknown keys among it
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "krait/core/error.h"

namespace krait::train {

using ConfigScalar = std::variant<bool, std::int64_t, double, std::string>;

// A value as the file has it, with its place. For config_file.cpp.
struct ConfigNode {
  using Table = std::vector<std::pair<std::string, ConfigNode>>;  // in the order of the file
  using Array = std::vector<ConfigNode>;
  std::variant<bool, std::int64_t, double, std::string, Array, Table> value = Table();
  int line = 0;
  bool asked = false;                    // somebody wanted this key
  std::vector<std::string> known_names;  // of a table: keys that were asked for, present or not
};

class ConfigFile;

// A table of a file, [name]; one that the file does not have is empty. Lives no longer than the file.
class ConfigTable {
 public:
  bool has(std::string_view key) const;
  bool empty() const;
  const std::string& path() const { return path_; }  // "data.source 2", for messages

  void read(std::string_view key, bool& value);
  void read(std::string_view key, std::int64_t& value, std::int64_t low, std::int64_t high);
  void read(std::string_view key, std::uint64_t& value);                    // up to 2^63 - 1, which is TOML's most
  void read(std::string_view key, double& value, double low, double high);  // whole numbers too; not NaN
  void read(std::string_view key, std::string& value);
  void read(std::string_view key, std::string& value, std::span<const std::string_view> choices);
  void read(std::string_view key, std::vector<std::string>& value);
  void read(std::string_view key, std::vector<double>& value, double low, double high);
  void read(std::string_view key, std::vector<std::int64_t>& value, std::int64_t low, std::int64_t high);

  std::vector<std::string> keys() const;                  // in the order of the file
  ConfigTable table(std::string_view key);                // [path.key]
  std::vector<ConfigTable> tables(std::string_view key);  // [[path.key]]; one [path.key] counts as a list of one

  // Notes that something is wrong with a key, or with the table when it has no such key.
  void wrong(std::string_view key, std::string_view what);
  // The same when `key` is absent.
  void require(std::string_view key);

 private:
  friend class ConfigFile;
  ConfigTable(ConfigFile* file, ConfigNode* node, std::string path)
      : file_(file), node_(node), path_(std::move(path)) {}
  ConfigNode* ask(std::string_view key);  // null when absent
  template <class Wanted>
  Wanted* expect(std::string_view key, std::string_view type);

  ConfigFile* file_;
  ConfigNode* node_;  // null: the file has no such table
  std::string path_;
};

class ConfigFile {
 public:
  static Result<ConfigFile> open(const std::filesystem::path& path);
  // kCorrupt when this is no TOML, with the line.
  static Result<ConfigFile> parse(std::string_view text, std::string origin);

  // A file like this one of which nobody has asked for anything, to be changed before it is read.
  ConfigFile copy() const;
  // `path` has dots between tables ("model.seed"). Tables on the way are made; where something else is in the way, it
  // stays, and who reads it says so.
  void put(std::string_view path, ConfigScalar value);
  // What `changes` has stands over what this file had, but for the keys `except`: tables are merged, all else is
  // replaced. Errors in it are said with the changes' own lines.
  void put_over(const ConfigTable& changes, std::span<const std::string_view> except);
  void remove(std::string_view key);
  // All of it as one line of JSON, in the order of the file.
  std::string json() const;

  ConfigTable root() { return {this, root_.get(), ""}; }
  ConfigTable table(std::string_view key) { return root().table(key); }
  const std::string& origin() const { return origin_; }

  // What was noted as wrong so far: the first in the order of the file, and how many more there are.
  Result<void> errors() const;
  // The same, when everything has been read: a key or table that nobody asked for is wrong too.
  Result<void> finish();

 private:
  friend class ConfigTable;
  struct Complaint {
    int line;
    std::string what;
  };
  void complain(int line, std::string what);
  void find_unknown(const ConfigNode& table, const std::string& path);

  std::string origin_;
  std::unique_ptr<ConfigNode> root_;  // where it is does not change when the file is moved
  std::vector<Complaint> complaints_;
};

}  // namespace krait::train
