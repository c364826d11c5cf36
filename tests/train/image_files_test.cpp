// Files of images, whole and damaged, and the task that reads them.
#include "krait/train/image_files.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <span>

#include "krait/train/task.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/shared_data.h"

namespace krait::train {
namespace {

using Bytes = std::vector<std::uint8_t>;

// Image i of a set that begins with number `first`: label (first + i) % 10, and a byte that follows from its place.
std::uint8_t cifar_byte(std::size_t image, std::size_t at) { return static_cast<std::uint8_t>(31 * image + 7 * at); }

Bytes cifar(std::size_t first, std::size_t count) {
  Bytes bytes;
  for (std::size_t i = first; i < first + count; ++i) {
    bytes.push_back(static_cast<std::uint8_t>(i % 10));
    for (std::size_t at = 0; at < 3072; ++at) bytes.push_back(cifar_byte(i, at));
  }
  return bytes;
}

void put_number(Bytes& bytes, std::uint32_t number) {
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<std::uint8_t>(number >> shift));
}

Bytes idx(std::uint32_t magic, const std::vector<std::uint32_t>& sizes, std::size_t bytes) {
  Bytes file;
  put_number(file, magic);
  for (const std::uint32_t size : sizes) put_number(file, size);
  for (std::size_t i = 0; i < bytes; ++i) file.push_back(static_cast<std::uint8_t>(5 * i));
  return file;
}

class ImageFiles : public ::testing::Test {
 protected:
  std::filesystem::path file(const std::string& name, const Bytes& bytes) const {
    return folder_.write(name, std::as_bytes(std::span(bytes)));
  }
  tests::TemporaryFolder folder_;
};

template <class Value>
std::string complaint(const Result<Value>& result) {
  return result ? std::string() : result.error().message;
}

TEST_F(ImageFiles, ReadsGreyFromCifar) {
  const auto images = read_cifar10(file("a.bin", cifar(0, 12)));
  ASSERT_TRUE(images) << images.error().message;
  ASSERT_EQ(images->count(), 12);
  EXPECT_EQ(images->width, 32);
  EXPECT_EQ(images->labels, (Bytes{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1}));
  for (std::size_t i = 0; i < 12; ++i) {
    const auto image = images->image(static_cast<std::int64_t>(i));
    ASSERT_EQ(image.size(), 1024U);
    for (std::size_t at = 0; at < 1024; ++at) {
      const double grey =
          0.299 * cifar_byte(i, at) + 0.587 * cifar_byte(i, at + 1024) + 0.114 * cifar_byte(i, at + 2048);
      EXPECT_NEAR(image[at], grey, 0.5 + 1e-9) << i << ", " << at;
    }
  }
}

TEST_F(ImageFiles, NamesWhatIsWrongWithCifar) {
  EXPECT_NE(complaint(read_cifar10(folder_.path() / "absent.bin")).find("absent.bin"), std::string::npos);
  EXPECT_NE(complaint(read_cifar10(file("empty.bin", {}))).find("empty.bin"), std::string::npos);
  Bytes cut = cifar(0, 2);
  cut.pop_back();
  const std::string message = complaint(read_cifar10(file("cut.bin", cut)));
  EXPECT_NE(message.find("6145 bytes"), std::string::npos) << message;
  EXPECT_NE(message.find("cut.bin"), std::string::npos) << message;
  Bytes wrong = cifar(0, 2);
  wrong[3073] = 10;
  EXPECT_NE(complaint(read_cifar10(file("wrong.bin", wrong))).find("image 1 has label 10"), std::string::npos);
}

TEST_F(ImageFiles, ReadsIdx) {
  const auto images = read_idx_images(file("images", idx(0x803, {3, 2, 4}, 24)), file("labels", idx(0x801, {3}, 3)));
  ASSERT_TRUE(images) << images.error().message;
  EXPECT_EQ(images->height, 2);
  EXPECT_EQ(images->width, 4);
  EXPECT_EQ(images->labels, (Bytes{0, 5, 10}));
  EXPECT_EQ(Bytes(images->image(1).begin(), images->image(1).end()), (Bytes{40, 45, 50, 55, 60, 65, 70, 75}));
}

TEST_F(ImageFiles, NamesWhatIsWrongWithIdx) {
  const auto labels = file("labels", idx(0x801, {3}, 3));
  const auto read = [&](const Bytes& images) { return complaint(read_idx_images(file("images", images), labels)); };
  EXPECT_EQ(read(idx(0x803, {3, 2, 4}, 24)), "");
  EXPECT_NE(read({0, 0, 8}).find("3 bytes are too few"), std::string::npos);
  EXPECT_NE(read(idx(0x801, {3, 2, 4}, 24)).find("00000803"), std::string::npos);
  EXPECT_NE(read(idx(0x803, {3, 2, 4}, 23)).find("3 x 2 x 4 and 23 bytes"), std::string::npos);
  EXPECT_NE(read(idx(0x803, {3, 2, 4}, 25)).find("25 bytes"), std::string::npos);
  EXPECT_NE(read(idx(0x803, {3, 0, 4}, 24)), "");
  EXPECT_NE(read(idx(0x803, {0, 0, 0}, 0)), "");
  // 2^32 - 1 images of 2^32 - 1 by 2^32 - 1: a product beyond 64 bits, which nobody may multiply out.
  EXPECT_NE(read(idx(0x803, {0xffffffff, 0xffffffff, 0xffffffff}, 24)), "");
  EXPECT_NE(read(idx(0x803, {0x80000000, 0x80000000, 4}, 24)), "");
  EXPECT_NE(read(idx(0x803, {4, 2, 3}, 24)).find("4 images"), std::string::npos);
  // Cut anywhere, it is refused.
  const Bytes whole = idx(0x803, {3, 2, 4}, 24);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_NE(read(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length))), "") << length;
  }
}

TEST(Images, ShrinkToMeansOfSquares) {
  const GreyImages images{.height = 2, .width = 4, .pixels = {0, 2, 100, 101, 4, 6, 102, 104}, .labels = {7}};
  const auto small = shrink_images(images, 2);
  ASSERT_TRUE(small) << small.error().message;
  EXPECT_EQ(small->pixels, (Bytes{3, 102}));  // 12 / 4, 407 / 4 = 101.75
  EXPECT_EQ(small->labels, Bytes{7});
  EXPECT_FALSE(shrink_images(images, 3));
}

TEST_F(ImageFiles, AreATaskWithItsOwnHeldOutExamples) {
  const TaskPaths paths = {{"images", file("a.bin", cifar(0, 12))}, {"test_images", file("b.bin", cifar(12, 5))}};
  auto made = make_task("sequential_images", {{"levels", 16}, {"validation", 3}}, paths);
  ASSERT_TRUE(made) << made.error().message;
  const std::unique_ptr<Task> training = *std::move(made);
  const auto validation = training->held_out(HeldOut::validation), test = training->held_out(HeldOut::test);
  ASSERT_TRUE(validation != nullptr && test != nullptr);
  EXPECT_EQ(training->examples(), 9);
  EXPECT_EQ(validation->examples(), 3);
  EXPECT_EQ(test->examples(), 5);
  EXPECT_EQ(training->vocabulary(), 16 + 10 + 1);
  EXPECT_EQ(training->longest(), 1025);
  EXPECT_EQ(training->hidden_share(), 0.5);
  const auto check = [](const Task& task, std::uint64_t index, std::size_t image) {
    const Example example = task.example(3, index);
    ASSERT_EQ(example.ids.size(), 1025U);
    for (std::size_t at = 0; at < 1024; ++at) {
      const double grey =
          0.299 * cifar_byte(image, at) + 0.587 * cifar_byte(image, at + 1024) + 0.114 * cifar_byte(image, at + 2048);
      EXPECT_EQ(example.ids[at], static_cast<std::int32_t>(std::floor(std::floor(grey + 0.5 + 1e-9) / 16)));
      EXPECT_EQ(example.labels[at], kNoLabel);
    }
    EXPECT_EQ(task.spell(example.ids[1024]), "?");
    EXPECT_EQ(task.spell(example.labels[1024]), fmt::format("class {}", image % 10));
  };
  check(*training, 0, 0);
  check(*training, 8, 8);
  check(*validation, 0, 9);
  check(*validation, 2, 11);
  check(*test, 0, 12);
  check(*test, 4, 16);
}

TEST_F(ImageFiles, RefuseByName) {
  const auto a = file("a.bin", cifar(0, 4)), b = file("b.bin", cifar(0, 2));
  const auto refusal = [](const TaskValues& values, const TaskPaths& paths) {
    return complaint(make_task("sequential_images", values, paths));
  };
  EXPECT_EQ(refusal({{"validation", 3}}, {{"images", a}, {"test_images", b}}), "");
  EXPECT_NE(refusal({}, {}).find("'images'"), std::string::npos);
  EXPECT_NE(refusal({}, {{"images", a}}).find("'test_images'"), std::string::npos);
  EXPECT_NE(refusal({}, {{"images", a}, {"test_images", b}, {"pictures", b}}).find("'pictures'"), std::string::npos);
  EXPECT_NE(refusal({{"validation", 4}}, {{"images", a}, {"test_images", b}}).find("4 images for validation"),
            std::string::npos);
  EXPECT_NE(refusal({{"validation", 1}, {"shrink", 5}}, {{"images", a}, {"test_images", b}}).find("squares of 5"),
            std::string::npos);
  const auto images = file("images", idx(0x803, {4, 2, 4}, 32)), labels = file("labels", idx(0x801, {4}, 4));
  EXPECT_NE(refusal({{"validation", 1}}, {{"images", images}, {"labels", labels}, {"test_images", b}}).find("2 x 4"),
            std::string::npos);
  EXPECT_NE(complaint(make_task("parity", {}, {{"images", a}})).find("'images'"), std::string::npos);
}

TEST(ImageTasks, ReadTheSmallSets) {
  KRAIT_REQUIRE_SHARED_DATA(shared);
  const std::filesystem::path cifar = shared / "data/cifar10_small", mnist = shared / "data/mnist_small";
  const auto images =
      make_task("sequential_images", {},
                {{"images", cifar / "data_batch_small.bin"}, {"test_images", cifar / "test_batch_small.bin"}});
  ASSERT_TRUE(images) << images.error().message;
  EXPECT_EQ((*images)->examples(), 900);
  EXPECT_EQ((*images)->held_out(HeldOut::test)->examples(), 300);
  EXPECT_EQ((*images)->vocabulary(), 256 + 10 + 1);
  const auto digits = make_task("sequential_images", {{"levels", 32}},
                                {{"images", mnist / "train-images-idx3-ubyte"},
                                 {"labels", mnist / "train-labels-idx1-ubyte"},
                                 {"test_images", mnist / "test-images-idx3-ubyte"},
                                 {"test_labels", mnist / "test-labels-idx1-ubyte"}});
  ASSERT_TRUE(digits) << digits.error().message;
  EXPECT_EQ((*digits)->examples(), 3900);
  EXPECT_EQ((*digits)->longest(), 785);
  std::array<int, 10> counts{};
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const std::int32_t label = (*digits)->held_out(HeldOut::test)->example(0, i).labels.back();
    ASSERT_TRUE(label >= 32 && label < 42);
    ++counts[static_cast<std::size_t>(label - 32)];
  }
  for (const int count : counts) EXPECT_EQ(count, 100);
}

}  // namespace
}  // namespace krait::train
