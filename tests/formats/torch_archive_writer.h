// Writes what torch.save writes, byte by byte: ZIP archives of stored entries and the pickle of a state dict.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/formats/byte_writer.h"

namespace krait::tests {

struct ZipMember {
  std::string name;
  Bytes data;
  std::uint16_t method = 0;
  std::uint16_t flags = 0;
};

// `zip64`: sizes and offsets stand in the ZIP64 records, the plain fields hold all ones.
inline Bytes zip_of(const std::vector<ZipMember>& members, bool zip64 = false, std::string_view comment = "") {
  ByteWriter file;
  std::vector<std::uint64_t> offsets;
  for (const ZipMember& member : members) {
    offsets.push_back(file.size());
    // PyTorch pads the extra field so that the data begins at a multiple of 64.
    const std::size_t unpadded = file.size() + 30 + member.name.size() + 4;
    const auto padding = static_cast<std::uint16_t>((64 - unpadded % 64) % 64);
    file.put<std::uint32_t>(0x04034b50).put<std::uint16_t>(0).put(member.flags).put(member.method);
    file.put<std::uint32_t>(0).put<std::uint32_t>(0).put<std::uint32_t>(0).put<std::uint32_t>(0);
    file.put(static_cast<std::uint16_t>(member.name.size())).put(static_cast<std::uint16_t>(padding + 4));
    file.raw(member.name).raw("FB").put(padding).raw(std::string(padding, 'Z')).raw(member.data);
  }
  const std::uint64_t directory = file.size();
  for (std::size_t i = 0; i < members.size(); ++i) {
    const ZipMember& member = members[i];
    const auto size = static_cast<std::uint32_t>(zip64 ? 0xffffffffU : member.data.size());
    file.put<std::uint32_t>(0x02014b50).put<std::uint16_t>(0).put<std::uint16_t>(0).put(member.flags);
    file.put(member.method).put<std::uint32_t>(0).put<std::uint32_t>(0).put(size).put(size);
    file.put(static_cast<std::uint16_t>(member.name.size())).put<std::uint16_t>(zip64 ? 28 : 0).put<std::uint16_t>(0);
    file.put<std::uint16_t>(0).put<std::uint16_t>(0).put<std::uint32_t>(0);
    file.put(static_cast<std::uint32_t>(zip64 ? 0xffffffffU : offsets[i])).raw(member.name);
    if (zip64) {
      file.put<std::uint16_t>(1).put<std::uint16_t>(24);
      file.put<std::uint64_t>(member.data.size()).put<std::uint64_t>(member.data.size()).put(offsets[i]);
    }
  }
  const std::uint64_t end = file.size();
  if (zip64) {
    file.put<std::uint32_t>(0x06064b50).put<std::uint64_t>(44).put<std::uint16_t>(45).put<std::uint16_t>(45);
    file.put<std::uint32_t>(0).put<std::uint32_t>(0);
    file.put<std::uint64_t>(members.size()).put<std::uint64_t>(members.size()).put(end - directory).put(directory);
    file.put<std::uint32_t>(0x07064b50).put<std::uint32_t>(0).put(end).put<std::uint32_t>(1);
  }
  const auto count = static_cast<std::uint16_t>(zip64 ? 0xffffU : members.size());
  file.put<std::uint32_t>(0x06054b50).put<std::uint16_t>(0).put<std::uint16_t>(0).put(count).put(count);
  file.put(static_cast<std::uint32_t>(zip64 ? 0xffffffffU : end - directory));
  file.put(static_cast<std::uint32_t>(zip64 ? 0xffffffffU : directory));
  file.put(static_cast<std::uint16_t>(comment.size())).raw(comment);
  return file.bytes();
}

// Pickle instructions of protocol 2, by their meaning.
class PickleWriter {
 public:
  PickleWriter& op(std::string_view bytes) {
    bytes_ += bytes;
    return *this;
  }
  PickleWriter& text(std::string_view text) {  // BINUNICODE
    bytes_ += 'X';
    for (int shift = 0; shift < 32; shift += 8) bytes_ += static_cast<char>((text.size() >> shift) & 0xff);
    bytes_ += text;
    return *this;
  }
  PickleWriter& integer(std::int64_t value) {  // LONG1 of eight bytes: longer than Python's choice, equally valid
    bytes_ += "\x8a\x08";
    for (int shift = 0; shift < 64; shift += 8) bytes_ += static_cast<char>((value >> shift) & 0xff);
    return *this;
  }
  PickleWriter& global(std::string_view module, std::string_view name) {
    bytes_.append("c").append(module).append("\n").append(name).append("\n");
    return *this;
  }
  PickleWriter& integers(const std::vector<std::int64_t>& values) {  // a tuple
    op("(");
    for (const std::int64_t value : values) integer(value);
    return op("t");
  }
  PickleWriter& storage(std::string_view type, std::string_view key, std::int64_t elements) {
    op("(").text("storage").global("torch", type).text(key).text("cpu").integer(elements);
    return op("tQ");
  }
  PickleWriter& tensor(std::string_view type, std::string_view key, std::int64_t elements, std::int64_t offset,
                       const std::vector<std::int64_t>& size, const std::vector<std::int64_t>& stride) {
    global("torch._utils", "_rebuild_tensor_v2").op("(").storage(type, key, elements);
    integer(offset).integers(size).integers(stride).op("\x89").global("collections", "OrderedDict").op(")R");
    return op("tR");
  }
  Bytes bytes() const { return bytes_of(bytes_); }
  const std::string& string() const { return bytes_; }

 private:
  std::string bytes_;
};

inline std::string_view pickle_protocol2() { return {"\x80\x02", 2}; }

// An archive as torch.save makes it: folder, pickle, byteorder, storages, version.
inline Bytes torch_archive(const Bytes& pickle, const std::vector<std::pair<std::string, Bytes>>& storages,
                           bool zip64 = true) {
  std::vector<ZipMember> members = {{"m/data.pkl", pickle}, {"m/byteorder", bytes_of("little")}};
  for (const auto& [key, data] : storages) members.push_back({"m/data/" + key, data});
  members.push_back({"m/version", bytes_of("3\n")});
  return zip_of(members, zip64);
}

}  // namespace krait::tests
