#include "krait/train/offload_file.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "krait/core/check.h"
#include "krait/train/direct_file.h"
#include "krait/train/quiet_thread.h"

namespace krait::train {
namespace {

// Tells the files of one process apart.
std::atomic<unsigned> files{0};

enum class Place : std::uint8_t {
  kFile,     // nowhere else, or nowhere at all as long as it was never written
  kReading,  // on its way into memory
  kMemory,
  kToWrite,  // in memory, and its turn to be written comes
  kWriting,
};

struct Extent {
  OffloadFile::Slot slot = 0;  // which one this is
  std::string name;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  Place place = Place::kFile;
  PoolBlock block;             // but in kFile
  int pins = 0;                // acquired so many times more than released
  int waiting = 0;             // threads that acquire it now
  bool written = false;        // the file has had it
  bool dirty = false;          // memory is newer than the file
  bool overwritten = false;    // by who waits for it: nothing has to be read
  std::uint64_t hint = 0;      // rising numbers: which one announced its next use; 0: none
  std::uint64_t last_use = 0;  // rising numbers
  FileEngine::Transfer transfer = 0;
  std::optional<Error> error;  // for those who wait

  bool may_go() const { return place == Place::kMemory && pins == 0 && waiting == 0 && !dirty; }
};

}  // namespace

std::uint64_t predicted_peak_bytes(std::span<const std::vector<std::uint64_t>> layers, int ahead, int behind) {
  const auto count = static_cast<std::int64_t>(layers.size());
  std::uint64_t most = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint64_t sum = 0;
    for (auto j = std::max<std::int64_t>(0, i - behind); j <= std::min<std::int64_t>(count - 1, i + ahead); ++j) {
      for (const std::uint64_t bytes : layers[static_cast<std::size_t>(j)]) sum += SizeClassPool::class_bytes(bytes);
    }
    most = std::max(most, sum);
  }
  return most;
}

// What the callers and the file's thread share. The thread alone moves bytes and touches the engine.
struct OffloadFile::Parts {
  using Slots = std::vector<Slot>;

  Parts(DirectFile opened, std::unique_ptr<FileEngine> mover, std::uint64_t memory_bytes)
      : file(std::move(opened)), engine(std::move(mover)), pool(memory_bytes, SizeClassPool::Fit::kExact) {}

  void run();
  void move_until_stopped(std::unique_lock<std::mutex>& guard);
  Slots plan();
  bool take_memory(Extent& extent, std::uint64_t hint);
  bool give_up_one(std::uint64_t hint);
  void fail_waiting();
  void begin(Extent& extent);
  void end(Extent& extent, int error);
  Extent& at(Slot slot);
  void wake_thread() {
    has_work = true;
    work.notify_one();
  }
  Result<void> take_write_error();

  DirectFile file;
  std::unique_ptr<FileEngine> engine;
  SizeClassPool pool;

  std::mutex mutex;              // of all below
  std::condition_variable work;  // for the file's thread
  std::condition_variable done;  // for the callers
  std::deque<Extent> extents;
  std::uint64_t end_of_file = 0;
  std::uint64_t uses = 0, hinted = 0;  // how many there have been
  std::deque<Slot> to_write, needed;
  std::map<std::uint64_t, Slot> hints;  // those that are in the file still, by their numbers
  Slots moving;                         // with a transfer
  std::optional<Error> write_error;
  std::optional<Error> broken;  // the thread is gone
  bool has_work = false, stopping = false;
  std::thread thread;
};

Extent& OffloadFile::Parts::at(Slot slot) {
  KRAIT_CHECK(slot < extents.size(), "slot {} of {}", slot, extents.size());
  return extents[slot];
}

Result<void> OffloadFile::Parts::take_write_error() {
  if (!write_error) return {};
  return std::unexpected(*std::exchange(write_error, std::nullopt));
}

void OffloadFile::Parts::run() {
  std::unique_lock guard(mutex);
  try {
    move_until_stopped(guard);
  } catch (const std::exception& exception) {
    if (!guard.owns_lock()) guard.lock();
    broken = Error{ErrorCode::kInternal, fmt::format("[storage] {} ({})", exception.what(), file.path().string())};
    done.notify_all();
  }
  engine->abandon();
}

void OffloadFile::Parts::move_until_stopped(std::unique_lock<std::mutex>& guard) {
  for (;;) {
    work.wait(guard, [this] { return stopping || has_work || !moving.empty(); });
    if (stopping) return;
    const Slots begun = std::exchange(has_work, false) ? plan() : Slots{};
    moving.insert(moving.end(), begun.begin(), begun.end());
    // Extents stay where they are, and nobody else touches those that move.
    std::vector<Extent*> under_way;
    for (const Slot slot : moving) under_way.push_back(&extents[slot]);
    guard.unlock();
    for (Extent* extent : std::span(under_way).last(begun.size())) begin(*extent);
    engine->advance();
    std::vector<std::pair<Extent*, int>> ended;
    for (Extent* extent : under_way) {
      if (engine->finished(extent->transfer)) ended.emplace_back(extent, engine->wait(extent->transfer));
    }
    guard.lock();
    for (const auto& [extent, error] : ended) end(*extent, error);
    std::erase_if(moving, [this](Slot slot) { return extents[slot].transfer == 0; });
    if (!ended.empty()) {
      has_work = true;
      done.notify_all();
    }
  }
}

// What is to be moved from now on: everything that was released dirty, what is waited for, then what was hinted at.
OffloadFile::Parts::Slots OffloadFile::Parts::plan() {
  Slots begun;
  for (const Slot slot : std::exchange(to_write, {})) {
    extents[slot].place = Place::kWriting;
    begun.push_back(slot);
  }
  while (!needed.empty() && take_memory(extents[needed.front()], 0)) {
    begun.push_back(needed.front());
    needed.pop_front();
  }
  while (needed.empty() && !hints.empty() && take_memory(extents[hints.begin()->second], hints.begin()->first)) {
    begun.push_back(hints.begin()->second);
    hints.erase(hints.begin());
  }
  if (!needed.empty() && begun.empty() && moving.empty()) fail_waiting();
  return begun;
}

bool OffloadFile::Parts::take_memory(Extent& extent, std::uint64_t hint) {
  for (;;) {
    if (auto block = pool.take(extent.bytes)) {
      extent.block = *std::move(block);
      extent.place = Place::kReading;
      return true;
    }
    if (!give_up_one(hint)) return false;
  }
}

// For what was announced as number `hint`, or is waited for (0), drops what was unused the longest; else what was
// announced after it, the last first, which will be read again. Whether there was any.
bool OffloadFile::Parts::give_up_one(std::uint64_t hint) {
  Extent* oldest = nullptr;
  Extent* latest = nullptr;
  for (Extent& extent : extents) {
    if (!extent.may_go()) continue;
    if (extent.hint == 0 && (oldest == nullptr || extent.last_use < oldest->last_use)) oldest = &extent;
    if (extent.hint > hint && (latest == nullptr || extent.hint > latest->hint)) latest = &extent;
  }
  Extent* chosen = oldest != nullptr ? oldest : latest;
  if (chosen == nullptr) return false;
  chosen->block = PoolBlock();
  chosen->place = Place::kFile;
  if (chosen->hint != 0) hints.emplace(chosen->hint, chosen->slot);
  return true;
}

// Nothing that moves could give memory to what is waited for.
void OffloadFile::Parts::fail_waiting() {
  for (const Slot slot : std::exchange(needed, {})) {
    Extent& extent = extents[slot];
    if (extent.waiting == 0) continue;
    const bool stuck = std::ranges::any_of(extents, [](const Extent& other) { return other.dirty && other.pins == 0; });
    if (stuck && write_error) {
      extent.error = write_error;
    } else {
      extent.error = Error{
          ErrorCode::kResourceExhausted,
          fmt::format("[storage] no memory for {} ({} bytes): {} of {} bytes are in use{}", extent.name, extent.bytes,
                      pool.use().held, pool.limit(), stuck ? ", some by what could not be written" : "")};
    }
  }
  done.notify_all();
}

void OffloadFile::Parts::begin(Extent& extent) {
  const std::span<std::byte> pages = extent.block.pages();
  if (extent.place == Place::kWriting) {
    extent.transfer = engine->write(file.descriptor(), extent.offset, pages);
    return;
  }
  // The disk has zeros there, but that need not be read.
  const bool reads = extent.written && !extent.overwritten;
  if (!reads && !extent.overwritten) std::memset(pages.data(), 0, pages.size());
  extent.transfer = engine->read(file.descriptor(), extent.offset, reads ? pages : pages.first(0));
}

void OffloadFile::Parts::end(Extent& extent, int error) {
  extent.transfer = 0;
  if (extent.place == Place::kWriting) {
    extent.place = Place::kMemory;
    if (error == 0) {
      extent.written = true;
      extent.dirty = false;
    } else if (!write_error) {
      write_error =
          file_failure(error, fmt::format("cannot write {} ({} bytes)", extent.name, extent.bytes), file.path())
              .error();
    }
    return;
  }
  extent.overwritten = false;
  extent.place = error == 0 ? Place::kMemory : Place::kFile;
  if (error == 0) return;
  extent.block = PoolBlock();
  extent.hint = 0;
  if (extent.waiting > 0) {
    extent.error =
        file_failure(error, fmt::format("cannot read {} ({} bytes)", extent.name, extent.bytes), file.path()).error();
  }
}

Result<std::unique_ptr<OffloadFile>> OffloadFile::create(const OffloadOptions& options) {
  const auto path = options.folder / fmt::format("krait-offload-{}-{}", ::getpid(), files++);
  KRAIT_ASSIGN(DirectFile file, DirectFile::create(path, options.direct));
  ::unlink(path.c_str());
  KRAIT_ASSIGN(auto engine, FileEngine::create(options.engine));
  return std::unique_ptr<OffloadFile>(
      new OffloadFile(std::make_unique<Parts>(std::move(file), std::move(engine), options.memory_bytes)));
}

OffloadFile::OffloadFile(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {
  parts_->thread = quiet_thread([parts = parts_.get()] { parts->run(); });
}

OffloadFile::~OffloadFile() {
  {
    const std::lock_guard guard(parts_->mutex);
    parts_->stopping = true;
  }
  parts_->work.notify_one();
  parts_->thread.join();
}

Result<OffloadFile::Slot> OffloadFile::reserve(std::string name, std::uint64_t bytes) {
  Parts& parts = *parts_;
  const std::lock_guard guard(parts.mutex);
  const std::uint64_t pages = SizeClassPool::class_bytes(bytes);
  if (pages > parts.pool.limit()) {
    return fail(ErrorCode::kResourceExhausted, "[storage] {} has {} bytes, more than the {} of all buffers", name,
                bytes, parts.pool.limit());
  }
  KRAIT_TRY(parts.file.allocate(parts.end_of_file + pages));
  Extent& extent = parts.extents.emplace_back();
  extent.slot = static_cast<Slot>(parts.extents.size() - 1);
  extent.name = std::move(name);
  extent.offset = parts.end_of_file;
  extent.bytes = bytes;
  parts.end_of_file += pages;
  return extent.slot;
}

void OffloadFile::prefetch(Slot slot) {
  Parts& parts = *parts_;
  const std::lock_guard guard(parts.mutex);
  Extent& extent = parts.at(slot);
  if (extent.hint != 0) return;
  extent.hint = ++parts.hinted;
  if (extent.place != Place::kFile) return;  // and stays where it is as long as there are others to drop
  parts.hints.emplace(extent.hint, slot);
  parts.wake_thread();
}

Result<std::span<std::byte>> OffloadFile::acquire(Slot slot, Content content) {
  Parts& parts = *parts_;
  std::unique_lock guard(parts.mutex);
  Extent& extent = parts.at(slot);
  if (extent.place == Place::kToWrite) {
    std::erase(parts.to_write, slot);
    extent.place = Place::kMemory;
  }
  if (extent.place == Place::kFile && std::ranges::find(parts.needed, slot) == parts.needed.end()) {
    extent.overwritten = content == Content::kOverwritten;
    parts.needed.push_back(slot);
    parts.wake_thread();
  }
  parts.hints.erase(std::exchange(extent.hint, 0));
  ++extent.waiting;
  parts.done.wait(guard, [&] { return extent.place == Place::kMemory || extent.error || parts.broken; });
  --extent.waiting;
  if (parts.broken) return std::unexpected(*parts.broken);
  if (extent.error) {
    const Error error = *extent.error;
    if (extent.waiting == 0) extent.error.reset();
    return std::unexpected(error);
  }
  ++extent.pins;
  return extent.block.bytes();
}

Result<void> OffloadFile::release(Slot slot, bool dirty) {
  Parts& parts = *parts_;
  const std::lock_guard guard(parts.mutex);
  Extent& extent = parts.at(slot);
  KRAIT_CHECK(extent.pins > 0, "{} is released more often than acquired", extent.name);
  --extent.pins;
  extent.dirty |= dirty;
  extent.last_use = ++parts.uses;
  if (extent.pins == 0 && extent.dirty) {
    extent.place = Place::kToWrite;
    parts.to_write.push_back(slot);
  }
  parts.wake_thread();
  return parts.take_write_error();
}

Result<void> OffloadFile::flush() {
  Parts& parts = *parts_;
  std::unique_lock guard(parts.mutex);
  for (Slot slot = 0; slot < parts.extents.size(); ++slot) {
    Extent& extent = parts.extents[slot];
    if (extent.place == Place::kMemory && extent.dirty && extent.pins == 0) {
      extent.place = Place::kToWrite;
      parts.to_write.push_back(slot);
    }
  }
  parts.write_error.reset();  // what it was to write is tried again
  parts.wake_thread();
  parts.done.wait(guard, [&] {
    const bool writing = std::ranges::any_of(parts.extents, [](const Extent& extent) {
      return extent.place == Place::kToWrite || extent.place == Place::kWriting;
    });
    return !writing || parts.broken;
  });
  if (parts.broken) return std::unexpected(*parts.broken);
  return parts.take_write_error();
}

bool OffloadFile::is_in_memory(Slot slot) const {
  const std::lock_guard guard(parts_->mutex);
  const Place place = parts_->at(slot).place;
  return place == Place::kMemory || place == Place::kToWrite;
}

std::uint64_t OffloadFile::file_bytes() const {
  const std::lock_guard guard(parts_->mutex);
  return parts_->end_of_file;
}

SizeClassPool::Use OffloadFile::memory_use() const { return parts_->pool.use(); }

std::string_view OffloadFile::engine_name() const { return parts_->engine->name(); }

}  // namespace krait::train
