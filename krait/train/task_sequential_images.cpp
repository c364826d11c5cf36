// Images read pixel by pixel, row by row (sequential CIFAR-10, sequential MNIST; the "Image" task of the Long Range
// Arena, Tay et al. 2021): grey values as tokens, then a question, at which the class is asked for.
//
//   128 131 90 … 17 ?  ->  class 3 at the question
//
// Files are read once. The first images of the training file are for training, its last ones for validation, those of
// the other file for the test. CIFAR-10's binary form, or IDX where `labels` are given (image_files.h).
#include <algorithm>

#include "krait/core/check.h"
#include "krait/train/image_files.h"
#include "krait/train/task_list.h"

namespace krait::train {
namespace {

// Images first … first + count - 1 of a set.
class SequentialImages final : public Task {
 public:
  struct Parts {
    GreyImages training, test;
    std::int64_t held_out = 0;  // training images that are for validation
    std::int64_t levels = 0;
    std::int64_t classes = 0;
  };
  enum class Which : std::uint8_t { training, validation, test };

  SequentialImages(std::shared_ptr<const Parts> parts, Which which) : parts_(std::move(parts)), which_(which) {}

  std::int64_t vocabulary() const override { return parts_->levels + parts_->classes + 1; }
  std::int64_t longest() const override { return images().height * images().width + 1; }
  std::int64_t examples() const override {
    if (which_ == Which::validation) return parts_->held_out;
    return images().count() - (which_ == Which::training ? parts_->held_out : 0);
  }
  double hidden_share() const override { return 0.5; }
  std::shared_ptr<const Task> held_out(HeldOut part) const override {
    return std::make_shared<SequentialImages>(parts_, part == HeldOut::test ? Which::test : Which::validation);
  }

  Example example(std::uint64_t /*seed*/, std::uint64_t index) const override {
    KRAIT_CHECK(index < static_cast<std::uint64_t>(examples()), "image {} of {}", index, examples());
    const auto at =
        static_cast<std::int64_t>(index) + (which_ == Which::validation ? images().count() - parts_->held_out : 0);
    Example example;
    for (const std::uint8_t pixel : images().image(at)) {
      example.ids.push_back(static_cast<std::int32_t>(pixel * parts_->levels / 256));
    }
    example.labels.assign(example.ids.size(), kNoLabel);
    example.ids.push_back(static_cast<std::int32_t>(parts_->levels + parts_->classes));
    example.labels.push_back(static_cast<std::int32_t>(parts_->levels + images().labels[static_cast<std::size_t>(at)]));
    return example;
  }

  std::string spell(std::int32_t token) const override {
    if (token < parts_->levels) return fmt::format("{}", token);
    const std::int64_t number = token - parts_->levels;
    return number < parts_->classes ? fmt::format("class {}", number) : "?";
  }

 private:
  const GreyImages& images() const { return which_ == Which::test ? parts_->test : parts_->training; }

  std::shared_ptr<const Parts> parts_;
  Which which_;
};

Result<GreyImages> read_images(const TaskPaths& paths, const std::string& prefix, std::int64_t shrink) {
  const auto labels = paths.find(prefix + "labels");
  const std::filesystem::path& file = paths.at(prefix + "images");
  KRAIT_ASSIGN(GreyImages images, labels == paths.end() ? read_cifar10(file) : read_idx_images(file, labels->second));
  return shrink == 1 ? std::move(images) : shrink_images(images, shrink);
}

Result<std::unique_ptr<Task>> open(const TaskValues& values, const TaskPaths& paths) {
  auto parts = std::make_shared<SequentialImages::Parts>();
  KRAIT_ASSIGN(parts->training, read_images(paths, "", values.at("shrink")));
  KRAIT_ASSIGN(parts->test, read_images(paths, "test_", values.at("shrink")));
  parts->held_out = values.at("validation");
  parts->levels = values.at("levels");
  if (parts->training.height != parts->test.height || parts->training.width != parts->test.width) {
    return fail(ErrorCode::kInvalidArgument,
                "[task] sequential_images: images of {} x {} to learn from, of {} x {} for the test",
                parts->training.height, parts->training.width, parts->test.height, parts->test.width);
  }
  if (parts->held_out >= parts->training.count()) {
    return fail(ErrorCode::kInvalidArgument,
                "[task] sequential_images: {} images for validation leave none of {} to learn from", parts->held_out,
                parts->training.count());
  }
  for (const GreyImages* images : {&parts->training, &parts->test}) {
    parts->classes = std::max<std::int64_t>(parts->classes, 1 + std::ranges::max(images->labels));
  }
  return std::make_unique<SequentialImages>(std::move(parts), SequentialImages::Which::training);
}

}  // namespace

const TaskKind kSequentialImages = {
    "sequential_images",
    "say what an image shows that is read pixel by pixel",
    {{"levels", 256, 2, 256, "different greys"},
     {"shrink", 1, 1, 64, "side of the squares of pixels that become one"},
     {"validation", 100, 1, 1 << 30, "images that are held out, from the end of the training file"}},
    nullptr,
    {{"images", true, "CIFAR-10's binary file, or an IDX file of images"},
     {"labels", false, "the IDX file of their labels"},
     {"test_images", true, "those of the test"},
     {"test_labels", false, "theirs"}},
    open};

}  // namespace krait::train
