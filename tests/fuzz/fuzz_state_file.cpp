// Any bytes as a state object: an error, or sections that can all be verified and read. The checksums of prelude and
// header are put right first, since nothing else would ever get past them.
#include <cstring>
#include <vector>

#include "krait/core/check.h"
#include "krait/core/crc32c.h"
#include "krait/formats/state_file.h"
#include "krait/formats/state_file_layout.h"

namespace {

using krait::formats::StatePrelude;

void put_right(std::vector<std::byte>& bytes) {
  StatePrelude prelude;
  if (bytes.size() < sizeof prelude) return;
  std::memcpy(&prelude, bytes.data(), sizeof prelude);
  prelude.magic = krait::formats::kStateMagic;
  prelude.endianness = krait::formats::kStateEndianness;
  prelude.version = krait::formats::kStateFileVersion;
  prelude.file_bytes = bytes.size();
  if (prelude.header_bytes <= bytes.size() - sizeof prelude) {
    prelude.header_crc32c = krait::crc32c(std::span(bytes).subspan(sizeof prelude, prelude.header_bytes));
  }
  prelude.prelude_crc32c = krait::crc32c(prelude.bytes().first(sizeof prelude - sizeof prelude.prelude_crc32c));
  std::memcpy(bytes.data(), &prelude, sizeof prelude);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint64_t kSmall = 1 << 20;
  const auto* first = reinterpret_cast<const std::byte*>(data);
  std::vector<std::byte> bytes(first, first + size);
  for (const bool repair : {false, true}) {
    if (repair) put_right(bytes);
    const auto object = krait::formats::StateObject::parse(bytes, "fuzz");
    if (!object) continue;
    static_cast<void>(object->verify());
    for (const auto& section : object->sections()) {
      KRAIT_CHECK(section.offset + section.stored_bytes <= bytes.size(), "section {} is outside", section.name);
      if (section.bytes > kSmall) continue;
      std::vector<std::byte> out(section.bytes);
      static_cast<void>(object->read(section, out));
    }
  }
  return 0;
}
