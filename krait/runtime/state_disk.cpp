#include "krait/runtime/state_disk.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string_view>
#include <unordered_map>

#include "krait/core/check.h"

namespace krait::runtime {
namespace {

using formats::TokenId;

constexpr std::string_view kFormatKey = "format";
constexpr std::string_view kFormat = "krait states 1";
constexpr std::size_t kPartBytes = std::size_t{4} << 20;
// Of memtables, before they are written to blob files: two of these at most.
constexpr std::size_t kWriteBuffer = 4 * kPartBytes;
// Beyond this much that was removed, its place on the disk is taken back.
constexpr std::uint64_t kLeastGarbage = std::uint64_t{64} << 20;
// Memory that a record's word alone is enough for.
constexpr std::uint64_t kBelievedBytes = std::uint64_t{256} << 20;
// Left on the disk for others.
constexpr std::uint64_t kFreeDisk = std::uint64_t{64} << 20;

// Only krait's own fixed-size numbers, as this machine has them: a folder does not travel.
struct RecordHead {
  std::uint64_t memory_bytes = 0;
  std::uint64_t object_bytes = 0;
  std::uint64_t tokens = 0;
};

struct Id {
  Hash128 owner;
  Hash128 prefix;
};
constexpr std::size_t kIdBytes = 32;

void append(std::string& key, std::uint64_t number) {
  for (int shift = 56; shift >= 0; shift -= 8) key.push_back(static_cast<char>(number >> shift & 0xff));
}

std::uint64_t number_at(std::string_view text, std::size_t place) {
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < 8; ++i) number = number << 8 | static_cast<std::uint8_t>(text[place + i]);
  return number;
}

std::string key_of(char kind, const Id& id) {
  std::string key(1, kind);
  for (const std::uint64_t number : {id.owner.high, id.owner.low, id.prefix.high, id.prefix.low}) append(key, number);
  return key;
}

std::string part_key(const Id& id, std::uint64_t part) {
  std::string key = key_of('s', id);
  append(key, part);
  return key;
}

std::optional<Id> id_of(std::string_view key) {
  if (key.size() < 1 + kIdBytes) return std::nullopt;
  return Id{{number_at(key, 1), number_at(key, 9)}, {number_at(key, 17), number_at(key, 25)}};
}

template <class T>
rocksdb::Slice slice_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

std::uint64_t parts_of(std::uint64_t bytes) { return (bytes + kPartBytes - 1) / kPartBytes; }

std::unexpected<Error> failure(const rocksdb::Status& status, std::string_view what, std::string_view folder) {
  ErrorCode code = ErrorCode::kInputOutput;
  if (status.IsNotFound()) code = ErrorCode::kNotFound;
  if (status.IsCorruption()) code = ErrorCode::kCorrupt;
  if (status.IsNoSpace() || status.subcode() == rocksdb::Status::kSpaceLimit) code = ErrorCode::kResourceExhausted;
  return fail(code, "[state disk] {}: {} ({})", what, status.ToString(), folder);
}

rocksdb::Options options_for_states() {
  rocksdb::Options options;
  options.create_if_missing = true;
  // Threads are few and memory is small: objects of up to hundreds of megabytes go through in parts.
  options.max_background_jobs = 2;
  options.write_buffer_size = kWriteBuffer;
  options.max_write_buffer_number = 2;
  options.max_total_wal_size = 4 * kWriteBuffer;
  options.max_open_files = 64;
  options.enable_blob_files = true;
  options.min_blob_size = 64 << 10;
  options.blob_compression_type = rocksdb::kNoCompression;
  options.enable_blob_garbage_collection = true;
  options.compression = rocksdb::kZSTD;  // of records, which are mostly tokens
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.info_log_level = rocksdb::ERROR_LEVEL;
  options.max_log_file_size = 1 << 20;
  options.keep_log_file_num = 2;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(4 << 20);
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

}  // namespace

struct StateDisk::Database {
  struct Stored {
    std::uint64_t bytes = 0;
    std::uint64_t object_bytes = 0;
  };
  struct Other {
    std::uint64_t last = 0;
    Id id;
    Stored what;
    std::int64_t position = 0;
  };

  // Whoever uses `db` holds the gate shared, whoever opens it anew alone.
  mutable std::shared_mutex gate;
  std::unique_ptr<rocksdb::DB> db;
  std::atomic<bool> broken = false;
  std::string folder;
  Hash128 owner;
  std::uint64_t budget = 0;
  std::vector<Record> records;
  std::vector<Stranger> strangers;
  std::uint64_t damaged = 0;
  std::uint64_t stranger_bytes = 0;

  mutable std::mutex mutex;  // of the three below; not held while the disk works
  std::unordered_map<Hash128, Stored> stored;
  std::uint64_t stored_bytes = 0;
  std::uint64_t garbage = 0;

  Result<void> check_format();
  Result<void> list();
  Result<void> remove_remains();
  template <class Visitor>
  Result<void> for_each(char kind, const Visitor& visit) const;
  std::optional<std::pair<Record, Stored>> read_record(std::string_view value, const Id& id) const;
  rocksdb::Status remove(const Id& id);
  rocksdb::Status take_back_place();
  Result<void> open();
  Result<std::shared_lock<std::shared_mutex>> use();
};

rocksdb::Status StateDisk::Database::remove(const Id& id) {
  rocksdb::WriteBatch batch;
  for (const char kind : {'r', 'u', 'w'}) batch.Delete(key_of(kind, id));
  batch.DeleteRange(part_key(id, 0), part_key(id, std::numeric_limits<std::uint64_t>::max()));
  return db->Write({}, &batch);
}

// visit(id, value) -> Result<void>, over all keys of a kind.
template <class Visitor>
Result<void> StateDisk::Database::for_each(char kind, const Visitor& visit) const {
  const std::string first(1, kind);
  const std::string behind(1, static_cast<char>(kind + 1));
  const rocksdb::Slice bound(behind);
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  options.iterate_upper_bound = &bound;
  const std::unique_ptr<rocksdb::Iterator> it(db->NewIterator(options));
  for (it->Seek(first); it->Valid(); it->Next()) {
    const auto id = id_of(it->key().ToStringView());
    if (!id) return fail(ErrorCode::kCorrupt, "[state disk] a key of {} bytes ({})", it->key().size(), folder);
    KRAIT_TRY(visit(*id, it->value().ToStringView()));
  }
  if (!it->status().ok()) return failure(it->status(), "the records cannot be listed", folder);
  return {};
}

Result<void> StateDisk::Database::open() {
  rocksdb::DB* opened = nullptr;
  const rocksdb::Status status = rocksdb::DB::Open(options_for_states(), folder, &opened);
  db.reset(opened);
  if (status.ok()) return {};
  if (status.ToString().find("lock") != std::string::npos && status.IsIOError()) {
    return fail(ErrorCode::kResourceExhausted,
                "[state disk] another process keeps its states in this folder, and only one can: {} ({})",
                status.ToString(), folder);
  }
  return failure(status, "the folder cannot be opened", folder);
}

// After an error while it wrote to its log, RocksDB refuses all writes until it is opened anew. Perhaps the cause is
// gone by then.
Result<std::shared_lock<std::shared_mutex>> StateDisk::Database::use() {
  if (broken) {
    const std::unique_lock alone(gate);
    if (broken) {
      db.reset();
      KRAIT_TRY(open());
      KRAIT_TRY(remove_remains());
      broken = false;
    }
  }
  std::shared_lock lock(gate);
  if (db == nullptr) return fail(ErrorCode::kInputOutput, "[state disk] the folder is not open ({})", folder);
  return lock;
}

// Blobs go when nobody names them any more, which a compaction finds out.
rocksdb::Status StateDisk::Database::take_back_place() {
  {
    const std::lock_guard lock(mutex);
    if (garbage < std::max(kLeastGarbage, budget / 8)) return rocksdb::Status::OK();
    garbage = 0;
  }
  rocksdb::CompactRangeOptions options;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  options.blob_garbage_collection_policy = rocksdb::BlobGarbageCollectionPolicy::kForce;
  options.blob_garbage_collection_age_cutoff = 1.0;
  return db->CompactRange(options, nullptr, nullptr);
}

Result<void> StateDisk::Database::check_format() {
  std::string format;
  const rocksdb::Status status = db->Get({}, rocksdb::Slice(kFormatKey), &format);
  if (status.ok()) {
    if (format == kFormat) return {};
    return fail(ErrorCode::kUnsupported, "[state disk] the folder's format is \"{}\", and this krait knows \"{}\" ({})",
                format, kFormat, folder);
  }
  if (!status.IsNotFound()) return failure(status, "the folder's format cannot be read", folder);
  const std::unique_ptr<rocksdb::Iterator> any(db->NewIterator({}));
  any->SeekToFirst();
  if (any->Valid()) {
    return fail(ErrorCode::kUnsupported, "[state disk] the folder holds a database of something else ({})", folder);
  }
  rocksdb::WriteOptions sync;
  sync.sync = true;
  const rocksdb::Status written = db->Put(sync, rocksdb::Slice(kFormatKey), rocksdb::Slice(kFormat));
  if (!written.ok()) return failure(written, "the folder cannot be written to", folder);
  return {};
}

std::optional<std::pair<StateDisk::Record, StateDisk::Database::Stored>> StateDisk::Database::read_record(
    std::string_view value, const Id& id) const {
  RecordHead head;
  if (value.size() < sizeof head) return std::nullopt;
  std::memcpy(&head, value.data(), sizeof head);
  if ((value.size() - sizeof head) / sizeof(TokenId) != head.tokens ||
      (value.size() - sizeof head) % sizeof(TokenId) != 0) {
    return std::nullopt;
  }
  Record record;
  record.prefix = id.prefix;
  record.memory_bytes = head.memory_bytes;
  record.object_bytes = head.object_bytes;
  record.tokens.resize(head.tokens);
  std::memcpy(record.tokens.data(), value.data() + sizeof head, head.tokens * sizeof(TokenId));
  if (record.tokens.empty() || record.memory_bytes == 0 || extend_prefix({}, record.tokens) != id.prefix) {
    return std::nullopt;
  }
  return std::pair(std::move(record), Stored{head.object_bytes + value.size(), head.object_bytes});
}

Result<void> StateDisk::Database::list() {
  std::vector<Other> others;
  KRAIT_TRY(for_each('r', [&](const Id& id, std::string_view value) -> Result<void> {
    auto record = read_record(value, id);
    if (!record) {
      ++damaged;
      const rocksdb::Status removed = remove(id);
      if (!removed.ok()) return failure(removed, "a damaged record cannot be removed", folder);
      return {};
    }
    auto& [found, what] = *record;
    std::string use;
    if (db->Get({}, key_of('u', id), &use).ok() && use.size() == sizeof(Use)) {
      std::memcpy(&found.use, use.data(), sizeof(Use));
    }
    stored_bytes += what.bytes;
    if (id.owner == owner) {
      stored.emplace(id.prefix, what);
      records.push_back(std::move(found));
    } else {
      stranger_bytes += what.bytes;
      others.push_back({found.use.last, id, what, std::ssize(found.tokens)});
    }
    return {};
  }));
  std::ranges::sort(records, {}, [](const Record& record) { return record.use.last; });

  std::ranges::sort(others, {}, &Other::last);
  for (const Other& other : others) {
    if (stranger_bytes <= budget / 2) {
      strangers.push_back({other.id.prefix, other.position});
      continue;
    }
    const rocksdb::Status removed = remove(other.id);
    if (!removed.ok()) return failure(removed, "a state of another model cannot be removed", folder);
    stranger_bytes -= other.what.bytes;
    stored_bytes -= other.what.bytes;
    garbage += other.what.bytes;
  }
  return {};
}

Result<void> StateDisk::Database::remove_remains() {
  return for_each('w', [&](const Id& id, std::string_view) -> Result<void> {
    const rocksdb::Status removed = remove(id);
    if (!removed.ok()) return failure(removed, "the remains of a write cannot be removed", folder);
    return {};
  });
}

StateDisk::StateDisk(std::unique_ptr<Database> database) : database_(std::move(database)) {}
StateDisk::~StateDisk() = default;

Result<std::unique_ptr<StateDisk>> StateDisk::open(const std::filesystem::path& folder, Hash128 owner,
                                                   std::uint64_t budget) {
  auto database = std::make_unique<Database>();
  database->folder = folder.string();
  database->owner = owner;
  database->budget = budget;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return fail(ErrorCode::kInputOutput, "[state disk] the folder cannot be made: {} ({})", error.message(),
                folder.string());
  }
  KRAIT_TRY(database->open());
  KRAIT_TRY(database->check_format());
  KRAIT_TRY(database->remove_remains());
  KRAIT_TRY(database->list());
  return std::unique_ptr<StateDisk>(new StateDisk(std::move(database)));
}

std::vector<StateDisk::Record> StateDisk::take_records() { return std::exchange(database_->records, {}); }
std::span<const StateDisk::Stranger> StateDisk::strangers() const { return database_->strangers; }
std::uint64_t StateDisk::damaged() const { return database_->damaged; }
std::uint64_t StateDisk::budget() const { return database_->budget; }
std::uint64_t StateDisk::bytes_of_strangers() const { return database_->stranger_bytes; }
std::uint64_t StateDisk::stored_bytes() const {
  const std::lock_guard lock(database_->mutex);
  return database_->stored_bytes;
}

Result<void> StateDisk::write(Hash128 prefix, std::span<const TokenId> tokens, const Use& use,
                              std::uint64_t memory_bytes, std::span<const std::byte> object) {
  Database& database = *database_;
  KRAIT_CHECK(!tokens.empty() && memory_bytes > 0, "a state of {} bytes after {} tokens", memory_bytes, tokens.size());
  const Database::Stored what{object.size() + sizeof(RecordHead) + tokens.size_bytes(), object.size()};
  {
    const std::lock_guard lock(database.mutex);
    if (database.stored.contains(prefix)) return {};
    if (what.bytes > database.budget || database.stored_bytes > database.budget - what.bytes) {
      return fail(ErrorCode::kResourceExhausted, "[state disk] {} bytes do not fit beside {} into {} ({})", what.bytes,
                  database.stored_bytes, database.budget, database.folder);
    }
  }
  // Twice, as it stands in the log and in the blob files for a while.
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(database.folder, error);
  if (!error && space.available < 2 * what.bytes + kFreeDisk) {
    return fail(ErrorCode::kResourceExhausted, "[state disk] {} bytes are wanted and the disk has {} left ({})",
                what.bytes, space.available, database.folder);
  }

  KRAIT_ASSIGN(const auto use_lock, database.use());
  const Id id{database.owner, prefix};
  const auto failed = [&](const rocksdb::Status& status) {
    // What was written of it is removed when the database is opened anew.
    database.broken = true;
    return failure(status, "a state cannot be written", database.folder);
  };
  const auto text = [](std::span<const std::byte> bytes) {
    return rocksdb::Slice(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  const rocksdb::Status begun = database.db->Put({}, key_of('w', id), {});
  if (!begun.ok()) return failed(begun);
  for (std::size_t part = 0; part < parts_of(object.size()); ++part) {
    const std::size_t from = part * kPartBytes;
    const auto bytes = object.subspan(from, std::min(kPartBytes, object.size() - from));
    const rocksdb::Status status = database.db->Put({}, part_key(id, part), text(bytes));
    if (!status.ok()) return failed(status);
  }
  const RecordHead head{memory_bytes, object.size(), tokens.size()};
  std::string record(slice_of(head).ToStringView());
  record.append(text(std::as_bytes(tokens)).ToStringView());
  rocksdb::WriteBatch batch;
  batch.Put(key_of('u', id), slice_of(use));
  batch.Put(key_of('r', id), record);
  batch.Delete(key_of('w', id));
  rocksdb::WriteOptions sync;
  sync.sync = true;  // of all of the log that is not on the disk yet, so of the parts too
  const rocksdb::Status status = database.db->Write(sync, &batch);
  if (!status.ok()) return failed(status);
  const std::lock_guard lock(database.mutex);
  database.stored.emplace(prefix, what);
  database.stored_bytes += what.bytes;
  return {};
}

Result<std::vector<std::byte>> StateDisk::read(Hash128 prefix) const {
  Database& database = *database_;
  KRAIT_ASSIGN(const auto use_lock, database.use());
  std::uint64_t bytes = 0;
  {
    const std::lock_guard lock(database.mutex);
    const auto found = database.stored.find(prefix);
    if (found == database.stored.end()) {
      return fail(ErrorCode::kNotFound, "[state disk] no state {} ({})", prefix.hex(), database.folder);
    }
    bytes = found->second.object_bytes;
  }
  const Id id{database.owner, prefix};
  std::vector<std::byte> object;
  object.reserve(std::min(bytes, kBelievedBytes));
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  for (std::uint64_t part = 0; part < parts_of(bytes); ++part) {
    rocksdb::PinnableSlice value;
    const rocksdb::Status status =
        database.db->Get(options, database.db->DefaultColumnFamily(), part_key(id, part), &value);
    if (!status.ok()) return failure(status, fmt::format("state {}", prefix.hex()), database.folder);
    // The record's length is believed as far as there are parts to fill it.
    if (value.size() != std::min<std::uint64_t>(kPartBytes, bytes - part * kPartBytes)) {
      return fail(ErrorCode::kCorrupt, "[state disk] part {} of state {} has {} bytes of an object of {} ({})", part,
                  prefix.hex(), value.size(), bytes, database.folder);
    }
    const auto* begin = reinterpret_cast<const std::byte*>(value.data());
    object.insert(object.end(), begin, begin + value.size());
  }
  return object;
}

Result<void> StateDisk::remove(Hash128 prefix) {
  Database& database = *database_;
  KRAIT_ASSIGN(const auto use_lock, database.use());
  Database::Stored what;
  {
    const std::lock_guard lock(database.mutex);
    const auto found = database.stored.find(prefix);
    if (found == database.stored.end()) return {};
    what = found->second;
    database.stored.erase(found);
    database.stored_bytes -= what.bytes;
    database.garbage += what.bytes;
  }
  const rocksdb::Status status = database.remove({database.owner, prefix});
  if (!status.ok()) {
    database.broken = true;
    return failure(status, "a state cannot be removed", database.folder);
  }
  const rocksdb::Status taken_back = database.take_back_place();
  if (!taken_back.ok()) return failure(taken_back, "the place of removed states cannot be taken back", database.folder);
  return {};
}

Result<void> StateDisk::note_use(Hash128 prefix, const Use& use) {
  KRAIT_ASSIGN(const auto use_lock, database_->use());
  const rocksdb::Status status = database_->db->Put({}, key_of('u', {database_->owner, prefix}), slice_of(use));
  if (status.ok()) return {};
  database_->broken = true;
  return failure(status, "the use of a state cannot be written down", database_->folder);
}

}  // namespace krait::runtime
