// State objects on the disk, found by what they belong to and by the hash of their tokens. What has been acknowledged
// is there after a crash of the process or the machine. It does not look into objects and decides nothing: which of
// them are worth their place, and whether what comes back is whole, is the business of state_store.h.
//
// The folder is a RocksDB database with these keys, O being the owner's 16 bytes and P those of the prefix:
//   "format"       the version of this layout
//   'r' O P        record: how long the object is, what the state takes in memory, and the tokens before it
//   'u' O P        use: what kind of state it is, when it was used last and how often
//   's' O P part   the object in parts of 4 MiB, in blob files, so that no more than a few parts are in memory at once
//   'w' O P        a write under way
// A write begins with 'w' and ends with the record in its place, and with it everything before it is on the disk. Where
// a 'w' is found when the folder is opened, a crash cut its write off, and its parts are removed.
//
// Objects are compressed by who makes them, so the log, the blob files and the budget all see the same bytes.
// RocksDB has threads of its own: do not fork a process that has a folder open, but to execute another program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/hash.h"
#include "krait/formats/tokenizer.h"

namespace krait::runtime {

// Thread-safe, but for writing or removing one prefix in two threads.
class StateDisk {
 public:
  struct Use {
    std::uint64_t last = 0;  // rising numbers: the order of last uses
    std::uint32_t hits = 0;
    std::uint32_t kind = 0;
  };
  struct Record {
    Hash128 prefix;
    std::vector<formats::TokenId> tokens;
    std::uint64_t memory_bytes = 0;  // of the state once it is read
    std::uint64_t object_bytes = 0;
    Use use;
  };
  // States of others, who may use the same folder at other times.
  struct Stranger {
    Hash128 prefix;
    std::int64_t position = 0;
  };

  // Makes the folder if need be. kResourceExhausted when another process has it open, kCorrupt when RocksDB cannot make
  // sense of it (moved away, the next starts anew), kUnsupported for a database that is not ours. Strangers may keep
  // half of `budget` bytes; what they have above that is removed, the longest unused first.
  static Result<std::unique_ptr<StateDisk>> open(const std::filesystem::path& folder, Hash128 owner,
                                                 std::uint64_t budget);
  ~StateDisk();

  // Ours, the longest unused first, as they were when the folder was opened; the second call gives none.
  std::vector<Record> take_records();
  std::span<const Stranger> strangers() const;
  // Records that could not be read when the folder was opened, and were removed.
  std::uint64_t damaged() const;

  // On the disk when it returns. One that is there already is left as it is. kResourceExhausted when it does not fit
  // into the budget or on the disk; later writes may succeed then.
  Result<void> write(Hash128 prefix, std::span<const formats::TokenId> tokens, const Use& use,
                     std::uint64_t memory_bytes, std::span<const std::byte> object);
  // kNotFound, or kCorrupt where RocksDB's own checksums are wrong. The object is still to be verified.
  Result<std::vector<std::byte>> read(Hash128 prefix) const;
  Result<void> remove(Hash128 prefix);
  // Not flushed to the disk at once: a crash may lose it.
  Result<void> note_use(Hash128 prefix, const Use& use);

  std::uint64_t budget() const;
  std::uint64_t stored_bytes() const;        // of all objects and records, those of strangers too
  std::uint64_t bytes_of_strangers() const;  // part of these

 private:
  struct Database;
  explicit StateDisk(std::unique_ptr<Database> database);
  std::unique_ptr<Database> database_;
};

}  // namespace krait::runtime
