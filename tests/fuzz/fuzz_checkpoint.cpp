// Any bytes as a manifest, and as the data file of a checkpoint: an error, or tensors that can all be read. The
// manifest's checksums are made to fit the data, since nothing else would ever get past them.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "krait/core/check.h"
#include "krait/core/crc32c.h"
#include "krait/train/checkpoint_reader.h"

namespace {

using krait::train::Checkpoint;
using krait::train::CheckpointManifest;

void read_everything(std::span<const std::byte> data) {
  CheckpointManifest manifest{.id = {1, 2}, .data_bytes = data.size(), .header_crc32c = 0};
  std::uint64_t header = 0;
  if (data.size() >= sizeof header) std::memcpy(&header, data.data(), sizeof header);
  if (header <= data.size() - std::min(data.size(), sizeof header)) {
    manifest.header_crc32c = krait::crc32c(data.first(std::min(data.size(), sizeof header + header)));
  }
  const auto checkpoint = Checkpoint::parse(manifest, data, "fuzz");
  if (!checkpoint) return;
  static krait::ThreadPool threads(1);
  static_cast<void>(checkpoint->verify(threads));
  for (const auto& tensor : checkpoint->tensors()) {
    const auto view = checkpoint->view(tensor.name);
    KRAIT_CHECK(view && view->bytes.size() == tensor.bytes, "tensor {} cannot be viewed", tensor.name);
    std::vector<std::byte> out(tensor.bytes);
    KRAIT_CHECK(checkpoint->read(tensor.name, tensor.dtype, tensor.shape, out), "tensor {} cannot be read",
                tensor.name);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto manifest = krait::train::parse_manifest(text, "fuzz")) {
    KRAIT_CHECK(krait::train::manifest_text(*manifest) == text, "a manifest has two spellings: {}", text);
  }
  read_everything({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
