#include "krait/train/image_files.h"

#include <algorithm>

#include "krait/formats/mapped_file.h"

namespace krait::train {
namespace {

std::uint8_t byte_at(std::span<const std::byte> bytes, std::size_t at) {
  return std::to_integer<std::uint8_t>(bytes[at]);
}

// The big-endian numbers at a file's beginning; the caller knows that they are there.
std::uint32_t number_at(std::span<const std::byte> bytes, std::size_t index) {
  std::uint32_t number = 0;
  for (std::size_t i = 0; i < 4; ++i) number = number << 8 | byte_at(bytes, 4 * index + i);
  return number;
}

// The header of an IDX file of `dimensions` dimensions: their sizes, after it is sure that they make up the file.
Result<std::vector<std::uint64_t>> read_idx_header(const formats::MappedFile& file, std::size_t dimensions) {
  const std::span<const std::byte> bytes = file.bytes();
  const std::size_t header = 4 * (1 + dimensions);
  if (bytes.size() < header) {
    return fail(ErrorCode::kCorrupt, "[images] {} bytes are too few for the header of an IDX file ({})", bytes.size(),
                file.name());
  }
  const auto magic = static_cast<std::uint32_t>(0x800 + dimensions);
  if (number_at(bytes, 0) != magic) {
    return fail(ErrorCode::kCorrupt,
                "[images] an IDX file of bytes in {} dimensions begins with {:08x}, not {:08x} ({})", dimensions, magic,
                number_at(bytes, 0), file.name());
  }
  std::vector<std::uint64_t> sizes;
  // Compared by division: three numbers of 32 bits can have a product beyond 64.
  std::uint64_t left = bytes.size() - header;
  bool fits = true;
  for (std::size_t i = 0; i < dimensions; ++i) {
    sizes.push_back(number_at(bytes, 1 + i));
    fits = fits && sizes.back() > 0 && left % sizes.back() == 0;
    if (fits) left /= sizes.back();
  }
  if (!fits || left != 1) {
    return fail(ErrorCode::kCorrupt, "[images] a header for {} and {} bytes after it do not go together ({})",
                fmt::join(sizes, " x "), bytes.size() - header, file.name());
  }
  return sizes;
}

}  // namespace

std::span<const std::uint8_t> GreyImages::image(std::int64_t index) const {
  const auto size = static_cast<std::size_t>(height * width);
  return std::span(pixels).subspan(static_cast<std::size_t>(index) * size, size);
}

Result<GreyImages> read_cifar10(const std::filesystem::path& path) {
  constexpr std::size_t kPlane = 32 * 32, kRecord = 1 + 3 * kPlane;
  constexpr std::uint8_t kClasses = 10;
  KRAIT_ASSIGN(const auto file, formats::MappedFile::open(path));
  const std::span<const std::byte> bytes = file.bytes();
  if (bytes.empty() || bytes.size() % kRecord != 0) {
    return fail(ErrorCode::kCorrupt, "[images] {} bytes are not whole records of CIFAR-10, of {} bytes each ({})",
                bytes.size(), kRecord, file.name());
  }
  GreyImages images{.height = 32, .width = 32, .pixels = {}, .labels = {}};
  const std::size_t count = bytes.size() / kRecord;
  images.pixels.reserve(count * kPlane);
  for (std::size_t i = 0; i < count; ++i) {
    const auto record = bytes.subspan(i * kRecord, kRecord);
    const std::uint8_t label = byte_at(record, 0);
    if (label >= kClasses) {
      return fail(ErrorCode::kCorrupt, "[images] image {} has label {}, CIFAR-10 has {} classes ({})", i, label,
                  kClasses, file.name());
    }
    images.labels.push_back(label);
    for (std::size_t at = 1; at <= kPlane; ++at) {
      const int grey =
          299 * byte_at(record, at) + 587 * byte_at(record, at + kPlane) + 114 * byte_at(record, at + 2 * kPlane);
      images.pixels.push_back(static_cast<std::uint8_t>((grey + 500) / 1000));
    }
  }
  return images;
}

Result<GreyImages> read_idx_images(const std::filesystem::path& images_path, const std::filesystem::path& labels_path) {
  KRAIT_ASSIGN(const auto images_file, formats::MappedFile::open(images_path));
  KRAIT_ASSIGN(const auto sizes, read_idx_header(images_file, 3));
  KRAIT_ASSIGN(const auto labels_file, formats::MappedFile::open(labels_path));
  KRAIT_ASSIGN(const auto labelled, read_idx_header(labels_file, 1));
  if (sizes[0] != labelled[0]) {
    return fail(ErrorCode::kCorrupt, "[images] {} images ({}) and {} labels ({})", sizes[0], images_file.name(),
                labelled[0], labels_file.name());
  }
  GreyImages images{.height = static_cast<std::int64_t>(sizes[1]),
                    .width = static_cast<std::int64_t>(sizes[2]),
                    .pixels = {},
                    .labels = {}};
  const auto copy = [](std::span<const std::byte> from, std::vector<std::uint8_t>& to) {
    to.resize(from.size());
    std::ranges::transform(from, to.begin(), [](std::byte byte) { return std::to_integer<std::uint8_t>(byte); });
  };
  copy(images_file.bytes().subspan(16), images.pixels);
  copy(labels_file.bytes().subspan(8), images.labels);
  return images;
}

Result<GreyImages> shrink_images(const GreyImages& images, std::int64_t side) {
  if (side < 1 || images.height % side != 0 || images.width % side != 0) {
    return fail(ErrorCode::kInvalidArgument, "[images] squares of {} pixels do not tile images of {} x {}", side,
                images.height, images.width);
  }
  GreyImages small{.height = images.height / side, .width = images.width / side, .pixels = {}, .labels = images.labels};
  small.pixels.reserve(static_cast<std::size_t>(small.count() * small.height * small.width));
  const std::int64_t area = side * side;
  for (std::int64_t i = 0; i < images.count(); ++i) {
    const auto image = images.image(i);
    for (std::int64_t y = 0; y < small.height; ++y) {
      for (std::int64_t x = 0; x < small.width; ++x) {
        std::int64_t sum = 0;
        for (std::int64_t at = 0; at < area; ++at) {
          sum += image[static_cast<std::size_t>((y * side + at / side) * images.width + x * side + at % side)];
        }
        small.pixels.push_back(static_cast<std::uint8_t>((2 * sum + area) / (2 * area)));
      }
    }
  }
  return small;
}

}  // namespace krait::train
