#include "krait/train/data_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace krait::train {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBlank = " \t\r\v\f";

Result<std::vector<fs::path>> files_under(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error); !error && entry != fs::recursive_directory_iterator();
       entry.increment(error)) {
    const std::string ending = entry->path().extension().string();
    if ((ending == ".txt" || ending == ".md" || ending == ".jsonl") && entry->is_regular_file()) {
      found.push_back(entry->path());
    }
  }
  if (error) return fail(ErrorCode::kInputOutput, "[text] {} cannot be listed: {}", folder.string(), error.message());
  if (found.empty()) return fail(ErrorCode::kNotFound, "[text] no .txt, .md or .jsonl file in {}", folder.string());
  std::ranges::sort(found);
  return found;
}

// The line at the beginning of `text`, without its end, which is taken too.
std::string_view take_line(std::string_view& text) {
  const std::string_view line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(line.size() + 1, text.size()));
  return line;
}

bool is_blank(std::string_view line) { return line.find_first_not_of(kBlank) == std::string_view::npos; }

}  // namespace

std::vector<std::string_view> split_documents(std::string_view text, std::int64_t blank_lines) {
  std::vector<std::string_view> documents;
  const auto keep = [&](const char* begin, const char* end) {
    const std::string_view part(begin, static_cast<std::size_t>(end - begin));
    if (part.find_first_not_of(" \t\r\v\f\n") != std::string_view::npos) documents.push_back(part);
  };
  if (blank_lines == 0) {
    keep(text.data(), text.data() + text.size());
    return documents;
  }
  const char* begin = text.data();  // of the document
  const char* end = begin;          // of its last line that is not blank
  std::int64_t blank = 0;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = take_line(rest);
    if (is_blank(line)) {
      ++blank;
      continue;
    }
    if (blank >= blank_lines) {
      keep(begin, end);
      begin = line.data();
    }
    blank = 0;
    end = rest.empty() ? text.data() + text.size() : rest.data();
  }
  keep(begin, end);
  return documents;
}

Result<TextCollection> TextCollection::open(const TextOptions& options) {
  TextCollection collection;
  for (const fs::path& path : options.paths) {
    std::vector<fs::path> files = {path};
    std::error_code unknown;  // said by whoever opens it
    if (fs::is_directory(path, unknown)) {
      KRAIT_ASSIGN(files, files_under(path));
    }
    for (const fs::path& file : files) KRAIT_TRY(collection.read(file, options));
  }
  if (collection.files_.empty()) return fail(ErrorCode::kNotFound, "[text] no files were named");
  return collection;
}

Result<void> TextCollection::read(const fs::path& path, const TextOptions& options) {
  KRAIT_ASSIGN(formats::MappedFile file, formats::MappedFile::open(path));
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  const std::size_t before = documents_.size();
  if (path.extension() == ".jsonl") {
    KRAIT_TRY(read_json_lines(text, options.field, path.string()));
  } else {
    const auto parts = split_documents(text, options.blank_lines);
    documents_.insert(documents_.end(), parts.begin(), parts.end());
  }
  files_.push_back({path.string(), file.bytes().size(), hash128(file.bytes()),
                    static_cast<std::int64_t>(documents_.size() - before)});
  mapped_.push_back(std::move(file));
  return {};
}

Result<void> TextCollection::read_json_lines(std::string_view text, const std::string& field,
                                             const std::string& origin) {
  for (std::int64_t number = 1; !text.empty(); ++number) {
    const std::string_view line = take_line(text);
    if (is_blank(line)) continue;
    const auto object = nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
    if (!object.is_object()) return fail(ErrorCode::kCorrupt, "[text] {}:{}: no JSON object", origin, number);
    const auto found = object.find(field);
    if (found == object.end() || !found->is_string()) {
      return fail(ErrorCode::kCorrupt, "[text] {}:{}: \"{}\" is no text", origin, number, field);
    }
    documents_.push_back(texts_.emplace_back(found->get<std::string>()));
  }
  return {};
}

}  // namespace krait::train
