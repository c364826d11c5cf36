#include "krait/train/appended_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <string>

namespace krait::train {
namespace {

std::string content(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class AppendedFileTest : public ::testing::Test {
 protected:
  std::filesystem::path path_ = std::filesystem::path(::testing::TempDir()) / "appended_file_test";
  void TearDown() override { std::filesystem::remove(path_); }
};

TEST_F(AppendedFileTest, BeginsEmptyOrGoesOn) {
  for (const auto& [begin, expected] :
       {std::pair(AppendedFile::Begin::kEmpty, "one\n"), std::pair(AppendedFile::Begin::kAsItIs, "one\none\n"),
        std::pair(AppendedFile::Begin::kEmpty, "one\n")}) {
    auto file = AppendedFile::open(path_, begin);
    ASSERT_TRUE(file.has_value()) << file.error().message;
    file->add("one\n");
    ASSERT_TRUE(file->flush().has_value());
    EXPECT_EQ(content(path_), expected);
  }
}

// As a disk that is full for a while: what did not fit follows, and nothing is there twice.
TEST_F(AppendedFileTest, WhatCouldNotBeWrittenIsWrittenNextTime) {
  auto file = AppendedFile::open(path_, AppendedFile::Begin::kEmpty);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 6;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  file->add("first\n");
  const auto first = file->flush();
  file->add("second\n");
  const auto second = file->flush();
  file->add("third\n");
  const auto third = file->flush();
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_TRUE(first.has_value());
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kInputOutput);
  EXPECT_NE(second.error().message.find(path_.string() + ": File too large"), std::string::npos);
  EXPECT_FALSE(third.has_value());
  EXPECT_EQ(content(path_), "first\n");
  file->add("fourth\n");
  ASSERT_TRUE(file->flush().has_value());
  EXPECT_EQ(content(path_), "first\nsecond\nthird\nfourth\n");
}

TEST_F(AppendedFileTest, AFolderThatIsNotThereIsNamed) {
  const auto file = AppendedFile::open(path_ / "none" / "log", AppendedFile::Begin::kEmpty);
  ASSERT_FALSE(file.has_value());
  EXPECT_NE(file.error().message.find((path_ / "none" / "log").string()), std::string::npos);
}

}  // namespace
}  // namespace krait::train
