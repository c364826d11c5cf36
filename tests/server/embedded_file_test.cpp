#include "krait/server/embedded_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "krait/server/service.h"

namespace krait::server {
namespace {

const std::filesystem::path kSource = std::filesystem::path(KRAIT_SOURCE_DIR) / "krait/server";

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string header(const HttpAnswer& answer, std::string_view name) {
  for (const HttpHeader& one : answer.headers) {
    if (one.name == name) return one.value;
  }
  return {};
}

HttpAnswer ask(const EmbeddedFile& file, const std::string& tags) {
  HttpRequest request;
  if (!tags.empty()) request.headers.push_back({"if-none-match", tags});
  return embedded_answer(file, request);
}

TEST(EmbeddedFiles, AreThoseOfTheSourceToTheByte) {
  std::set<std::string> embedded;
  std::set<std::string_view> tags;
  for (const EmbeddedFile& file : embedded_files()) {
    EXPECT_EQ(file.text, read(kSource / file.path)) << file.path;
    EXPECT_TRUE(tags.insert(file.etag).second) << file.path;
    embedded.insert(std::string(file.path));
  }
  // And all of them: one that was forgotten would be missed in the browser only.
  for (const auto& entry : std::filesystem::directory_iterator(kSource / "page")) {
    EXPECT_TRUE(embedded.contains("page/" + entry.path().filename().string())) << entry.path();
  }
  EXPECT_EQ(find_embedded_file("page/none.js"), nullptr);
  EXPECT_EQ(find_embedded_file("page/../openapi.json"), nullptr);
}

TEST(EmbeddedFiles, AreNotSentTwice) {
  const EmbeddedFile* file = find_embedded_file("page/app.js");
  ASSERT_NE(file, nullptr);
  const HttpAnswer first = ask(*file, "");
  EXPECT_EQ(first.status, 200);
  EXPECT_EQ(first.content_type, "text/javascript; charset=utf-8");
  EXPECT_EQ(first.body, file->text);
  const std::string tag = header(first, "etag");
  EXPECT_EQ(tag, file->etag);
  for (const std::string& tags : {tag, "\"other\", " + tag, "W/" + tag, std::string("*")}) {
    const HttpAnswer again = ask(*file, tags);
    EXPECT_EQ(again.status, 304) << tags;
    EXPECT_TRUE(again.body.empty()) << tags;
    EXPECT_EQ(header(again, "etag"), tag) << tags;
  }
  EXPECT_EQ(ask(*file, "\"other\"").status, 200);
  EXPECT_EQ(ask(*file, tag.substr(0, tag.size() - 1)).status, 200);
}

// Method and path of what is described, in upper case and as the table has them.
std::set<std::pair<std::string, std::string>> described() {
  std::set<std::pair<std::string, std::string>> found;
  const auto document = nlohmann::json::parse(find_embedded_file("openapi.json")->text);
  for (const auto& [path, item] : document.at("paths").items()) {
    for (const auto& [method, operation] : item.items()) {
      if (method == "parameters") continue;
      std::string name = method;
      for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      found.emplace(name, path);
    }
  }
  return found;
}

TEST(OpenApi, DescribesEveryRouteAndNothingElse) {
  const auto document = described();
  std::set<std::pair<std::string, std::string>> table;
  for (const auto& [method, path] : Service::route_names()) {
    table.emplace(method, path);
    EXPECT_TRUE(document.contains({method, path})) << method << ' ' << path << " is not in openapi.json";
  }
  for (const auto& [method, path] : document) {
    EXPECT_TRUE(table.contains({method, path})) << method << ' ' << path << " of openapi.json is no route";
  }
}

}  // namespace
}  // namespace krait::server
