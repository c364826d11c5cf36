// Labelled images as the well-known small sets have them, as grey bytes.
//   CIFAR-10's binary form: records of 1 label byte and 3 planes (red, green, blue) of 32 x 32 bytes, row by row; files
//     can be put one after the other. Grey is 0.299 R + 0.587 G + 0.114 B, rounded.
//   IDX (MNIST's): big-endian; images are 0x00000803, count, rows, columns and the bytes, labels 0x00000801, count and
//     the bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "krait/core/error.h"

namespace krait::train {

struct GreyImages {
  std::int64_t height = 0, width = 0;
  std::vector<std::uint8_t> pixels;  // [count, height, width]
  std::vector<std::uint8_t> labels;  // [count]

  std::int64_t count() const { return static_cast<std::int64_t>(labels.size()); }
  std::span<const std::uint8_t> image(std::int64_t index) const;
};

// kCorrupt names the file and what is wrong in it. A file without images is wrong too.
Result<GreyImages> read_cifar10(const std::filesystem::path& path);
Result<GreyImages> read_idx_images(const std::filesystem::path& images, const std::filesystem::path& labels);

// Each square of side x side pixels becomes their mean, rounded. kInvalidArgument where they do not tile the images.
Result<GreyImages> shrink_images(const GreyImages& images, std::int64_t side);

}  // namespace krait::train
