// Texts to train on: plain text files and JSON lines, as a list of documents.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/hash.h"
#include "krait/formats/mapped_file.h"

namespace krait::train {

struct TextOptions {
  // Files, or folders: of these every .txt, .md and .jsonl file at any depth, in the order of their paths. A .jsonl
  // file has an object a line, whose text is a document; any other file is text.
  std::vector<std::filesystem::path> paths;
  std::string field = "text";    // of JSON lines
  std::int64_t blank_lines = 0;  // of text: documents are parted by this many blank lines or more; 0: one a file
};

struct TextFile {
  std::string path;
  std::uint64_t bytes = 0;
  Hash128 hash;  // core/hash.h
  std::int64_t documents = 0;
};

// Files stay mapped; what JSON lines hold is kept in memory.
class TextCollection {
 public:
  // kNotFound for a path without texts; kCorrupt for a line that is no object with a text, which is named.
  static Result<TextCollection> open(const TextOptions& options);

  std::span<const std::string_view> documents() const { return documents_; }
  std::span<const TextFile> files() const { return files_; }

 private:
  Result<void> read(const std::filesystem::path& path, const TextOptions& options);
  Result<void> read_json_lines(std::string_view text, const std::string& field, const std::string& origin);

  std::vector<formats::MappedFile> mapped_;
  std::deque<std::string> texts_;  // of JSON lines; a deque leaves them where they are
  std::vector<std::string_view> documents_;
  std::vector<TextFile> files_;
};

// Parts of a text between stretches of at least `blank_lines` lines of nothing but spaces and tabs; all of it for 0.
// Parts without a visible character are left out.
std::vector<std::string_view> split_documents(std::string_view text, std::int64_t blank_lines);

}  // namespace krait::train
