#include "krait/train/event_file.h"

#include <bit>
#include <string>

#include "krait/core/crc32c.h"

namespace krait::train {
namespace {

// Protocol buffers: a key is (field << 3 | type); type 0 a varint, 1 eight bytes, 2 a length and bytes, 5 four bytes.
void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7f) | 0x80);
  out += static_cast<char>(value);
}
template <class T>
void put_raw(std::string& out, T value) {
  static_assert(std::endian::native == std::endian::little);
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}
void put_bytes(std::string& out, int field, std::string_view bytes) {
  put_varint(out, static_cast<std::uint64_t>(field << 3 | 2));
  put_varint(out, bytes.size());
  out += bytes;
}

// Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }
std::string event_of(double wall_seconds, std::int64_t step, int field, std::string_view content) {
  std::string event;
  put_varint(event, 1 << 3 | 1);
  put_raw(event, wall_seconds);
  put_varint(event, 2 << 3);
  put_varint(event, static_cast<std::uint64_t>(step));
  put_bytes(event, field, content);
  return event;
}

// As TFRecord keeps checksums: turned and moved, so that a checksum of checksums is none of its parts.
std::uint32_t masked_checksum(std::string_view bytes) {
  const std::uint32_t crc = crc32c(std::as_bytes(std::span(bytes)));
  return std::rotr(crc, 15) + 0xa282ead8U;
}

}  // namespace

Result<EventFile> EventFile::create(const std::filesystem::path& folder, double wall_seconds) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  KRAIT_ASSIGN(AppendedFile file,
               AppendedFile::open(folder / fmt::format("events.out.tfevents.{:010.0f}.krait", wall_seconds),
                                  AppendedFile::Begin::kEmpty));
  EventFile events(std::move(file));
  events.record(event_of(wall_seconds, 0, 3, "brain.Event:2"));
  return events;
}

void EventFile::scalar(std::string_view tag, std::int64_t step, double value, double wall_seconds) {
  // Summary { repeated Value value = 1; },  Value { string tag = 1; float simple_value = 2; }
  std::string of_tag, summary;
  put_bytes(of_tag, 1, tag);
  put_varint(of_tag, 2 << 3 | 5);
  put_raw(of_tag, static_cast<float>(value));
  put_bytes(summary, 1, of_tag);
  record(event_of(wall_seconds, step, 5, summary));
}

void EventFile::record(std::string_view event) {
  std::string bytes;
  put_raw(bytes, std::uint64_t{event.size()});
  put_raw(bytes, masked_checksum(bytes));
  bytes += event;
  put_raw(bytes, masked_checksum(event));
  file_.add(bytes);
}

}  // namespace krait::train
