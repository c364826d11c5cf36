#include "krait/train/data_text.h"

#include <gtest/gtest.h>

#include "tests/formats/temporary_folder.h"

namespace krait::train {
namespace {

using Texts = std::vector<std::string_view>;

Texts all(const TextCollection& collection) { return {collection.documents().begin(), collection.documents().end()}; }

TEST(DataText, DocumentsArePartedByBlankLines) {
  const std::string text = "one\ntwo\n\nthree\n \t\r\n\n\nfour\n\n";
  EXPECT_EQ(split_documents(text, 0), Texts{text});
  EXPECT_EQ(split_documents(text, 1), (Texts{"one\ntwo\n", "three\n", "four\n"}));
  EXPECT_EQ(split_documents(text, 2), (Texts{"one\ntwo\n\nthree\n", "four\n"}));
  EXPECT_EQ(split_documents(text, 9), Texts{text.substr(0, text.size() - 1)}) << "blank lines at the end are in none";
  EXPECT_EQ(split_documents("\n\n\nx", 1), Texts{"x"});
  EXPECT_EQ(split_documents("", 0), Texts());
  EXPECT_EQ(split_documents(" \n\n ", 0), Texts());
  EXPECT_EQ(split_documents(" \n\n ", 1), Texts());
}

TEST(DataText, ReadsFilesFoldersAndJsonLines) {
  const tests::TemporaryFolder folder;
  std::filesystem::create_directories(folder.path() / "b" / "c");
  folder.write("a.txt", "first\n\nsecond");
  folder.write("b/c/deep.jsonl", "{\"text\": \"caf\\u00e9\", \"id\": 1}\n\n{\"text\": \"\"}\n");
  folder.write("b/z.md", "third");
  folder.write("b/picture.png", "not text");
  const auto collection = TextCollection::open({.paths = {folder.path()}, .blank_lines = 1});
  ASSERT_TRUE(collection) << collection.error().message;
  EXPECT_EQ(all(*collection), (Texts{"first\n", "second", "caf\xc3\xa9", "", "third"}));
  ASSERT_EQ(collection->files().size(), 3U);
  EXPECT_EQ(collection->files()[1].documents, 2);
  EXPECT_EQ(collection->files()[0].bytes, 13U);
  EXPECT_EQ(collection->files()[0].hash, hash128(std::as_bytes(std::span(std::string_view("first\n\nsecond")))));
  // A file that is named is text whatever it is called.
  const auto named = TextCollection::open({.paths = {folder.path() / "b" / "picture.png"}});
  ASSERT_TRUE(named);
  EXPECT_EQ(all(*named), Texts{"not text"});
}

TEST(DataText, SaysWhichLineIsWrong) {
  const tests::TemporaryFolder folder;
  const auto refusal = [&](std::string_view text, std::string field) {
    const auto path = folder.write("x.jsonl", text);
    const auto opened = TextCollection::open({.paths = {path}, .field = std::move(field)});
    return opened ? std::string() : opened.error().message;
  };
  EXPECT_NE(refusal("{\"text\": \"a\"}\n{\"text\": ", "text").find("x.jsonl:2: no JSON object"), std::string::npos);
  EXPECT_NE(refusal("{\"text\": \"a\"}", "body").find("x.jsonl:1: \"body\" is no text"), std::string::npos);
  EXPECT_NE(refusal("{\"text\": 3}", "text").find("\"text\" is no text"), std::string::npos);
  EXPECT_NE(refusal("[1]", "text"), "");
  EXPECT_FALSE(TextCollection::open({.paths = {folder.path() / "nothing"}}));
  EXPECT_FALSE(TextCollection::open({}));
  std::filesystem::create_directories(folder.path() / "empty");
  EXPECT_EQ(TextCollection::open({.paths = {folder.path() / "empty"}}).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace krait::train
