// Writes GGUF files byte by byte for tests of their reader.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/formats/byte_writer.h"

namespace krait::tests {

inline Bytes gguf_text(std::string_view text) { return ByteWriter().put<std::uint64_t>(text.size()).raw(text).bytes(); }

struct GgufTensor {
  std::string name;
  std::vector<std::int64_t> dimensions;  // the contiguous one first, as in the file
  std::uint32_t type = 0;
  std::uint64_t offset = 0;
};

class GgufWriter {
 public:
  std::uint32_t version = 3;
  std::size_t alignment = 32;

  // `value` is what follows the type number.
  GgufWriter& pair(std::string_view key, std::uint32_t type, const Bytes& value) {
    pairs_.raw(gguf_text(key)).put(type).raw(value);
    ++pair_count_;
    return *this;
  }
  template <class T>
  GgufWriter& scalar(std::string_view key, std::uint32_t type, T value) {
    return pair(key, type, ByteWriter().put(value).bytes());
  }
  GgufWriter& text(std::string_view key, std::string_view value) { return pair(key, 8, gguf_text(value)); }
  GgufWriter& array(std::string_view key, std::uint32_t element_type, std::uint64_t count, const Bytes& elements) {
    return pair(key, 9, ByteWriter().put(element_type).put(count).raw(elements).bytes());
  }
  GgufWriter& tensor(const GgufTensor& tensor) {
    tensors_.raw(gguf_text(tensor.name)).put(static_cast<std::uint32_t>(tensor.dimensions.size()));
    for (const std::int64_t dimension : tensor.dimensions) tensors_.put(dimension);
    tensors_.put(tensor.type).put(tensor.offset);
    ++tensor_count_;
    return *this;
  }
  GgufWriter& data(const Bytes& data) {
    data_ = data;
    return *this;
  }

  Bytes bytes() const {
    ByteWriter file;
    file.raw("GGUF").put(version).put(tensor_count_).put(pair_count_).raw(pairs_.bytes()).raw(tensors_.bytes());
    return file.pad_to(alignment).raw(data_).bytes();
  }

 private:
  ByteWriter pairs_;
  ByteWriter tensors_;
  Bytes data_;
  std::uint64_t pair_count_ = 0;
  std::uint64_t tensor_count_ = 0;
};

}  // namespace krait::tests
