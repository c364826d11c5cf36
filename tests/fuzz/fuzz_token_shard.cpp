// Any bytes as a token shard: an error, or documents that can all be read. The checksums of the prelude and of borders
// and provenance are put right first, since nothing else would ever get past them.
#include <cstring>
#include <vector>

#include "krait/core/check.h"
#include "krait/core/crc32c.h"
#include "krait/train/data_provenance.h"
#include "krait/train/data_shard.h"
#include "krait/train/data_shard_layout.h"

namespace {

using krait::train::ShardParts;
using krait::train::ShardPrelude;

void put_right(std::vector<std::byte>& bytes) {
  ShardPrelude prelude;
  if (bytes.size() < sizeof prelude) return;
  std::memcpy(&prelude, bytes.data(), sizeof prelude);
  prelude.magic = krait::train::kShardMagic;
  prelude.endianness = krait::train::kShardEndianness;
  prelude.version = krait::train::kTokenShardVersion;
  prelude.token_bytes = prelude.token_bytes % 2 == 0 ? 2 : 4;
  prelude.file_bytes = bytes.size();
  const std::uint64_t most = bytes.size();
  if (prelude.tokens <= most && prelude.documents <= most) {
    // The provenance takes what is left, so that sizes fit more often.
    prelude.provenance_bytes = 0;
    const std::uint64_t begin = ShardParts(prelude).provenance;
    if (begin <= most) {
      prelude.provenance_bytes = most - begin;
      const ShardParts parts(prelude);
      const auto all = std::span(bytes);
      prelude.borders_crc32c = krait::crc32c(all.subspan(parts.borders, (prelude.documents + 1) * 8));
      prelude.provenance_crc32c = krait::crc32c(all.subspan(parts.provenance));
    }
  }
  prelude.prelude_crc32c = krait::crc32c(prelude.checked_bytes());
  std::memcpy(bytes.data(), &prelude, sizeof prelude);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto* first = reinterpret_cast<const std::byte*>(data);
  std::vector<std::byte> bytes(first, first + size);
  for (const bool repair : {false, true}) {
    if (repair) put_right(bytes);
    const auto shard = krait::train::TokenShard::parse(bytes, "fuzz");
    if (!shard) continue;
    static_cast<void>(shard->verify());
    static_cast<void>(krait::train::Provenance::parse(shard->provenance(), "fuzz"));
    std::int64_t tokens = 0;
    for (std::int64_t i = 0; i < shard->documents(); ++i) {
      const std::int64_t length = shard->document_length(i);
      KRAIT_CHECK(length >= 0 && length <= static_cast<std::int64_t>(size), "document {} has {} tokens", i, length);
      std::vector<std::int32_t> ids(static_cast<std::size_t>(length));
      if (!shard->read(shard->document_begin(i), ids)) continue;
      for (const std::int32_t id : ids) KRAIT_CHECK(id >= 0 && id < shard->vocabulary(), "token {}", id);
      tokens += length;
    }
    KRAIT_CHECK(tokens <= shard->tokens(), "{} of {} tokens", tokens, shard->tokens());
  }
  return 0;
}
