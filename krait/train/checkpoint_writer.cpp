#include "krait/train/checkpoint_writer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <iterator>
#include <mutex>
#include <thread>
#include <utility>

#include "krait/core/check.h"
#include "krait/core/crc32c.h"
#include "krait/formats/atomic_file.h"
#include "krait/train/checkpoint_image.h"
#include "krait/train/direct_file.h"
#include "krait/train/quiet_thread.h"

namespace krait::train {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Removes one file; that it is not there is fine.
Result<void> remove_file(const fs::path& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  return file_failure(errno, "cannot remove", path);
}

// What cannot be removed now is swept up when the folder is opened next.
void remove_remains(const fs::path& data) { ::unlink(data.c_str()); }

// A folder that no other writer has.
class FolderLock {
 public:
  static Result<FolderLock> take(const fs::path& folder) {
    std::error_code error;
    fs::create_directories(folder, error);
    const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return file_failure(error ? error.value() : errno, "cannot open the folder", folder);
    FolderLock lock(descriptor);
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) return lock;
    if (errno == EWOULDBLOCK) {
      return fail(ErrorCode::kResourceExhausted, "[checkpoint] another writer has the folder ({})", folder.string());
    }
    return file_failure(errno, "cannot lock the folder", folder);
  }
  FolderLock(FolderLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FolderLock& operator=(FolderLock&&) = delete;
  ~FolderLock() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

 private:
  explicit FolderLock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

// Manifests that were never finished, and data that no manifest speaks of.
Result<void> sweep(const fs::path& folder, const CheckpointFiles& files) {
  for (const fs::path& name : files.partial) KRAIT_TRY(remove_file(folder / name));
  for (const CheckpointId& id : files.data) {
    if (std::ranges::find(files.manifests, id) == files.manifests.end()) {
      KRAIT_TRY(remove_file(folder / id.data_name()));
    }
  }
  return {};
}

}  // namespace

// What both threads have. The caller's takes snapshots, the writer's brings them to the disk, one after the other.
struct CheckpointWriter::Parts {
  struct Job {
    CheckpointReport report;
    std::shared_ptr<CheckpointImage> image;  // the caller's too, until it is settled
  };

  Parts(CheckpointOptions given, ThreadPool& pool, SizeClassPool& blocks, FolderLock taken,
        std::unique_ptr<FileEngine> files)
      : options(std::move(given)), threads(pool), memory(blocks), lock(std::move(taken)), engine(std::move(files)) {}

  void run();
  Result<void> write(Job& job);
  Result<void> commit(const CheckpointId& id, const Result<CheckpointManifest>& manifest);
  void take_note(CheckpointReport& report, Result<void> committed);
  Result<CheckpointManifest> write_data(CheckpointImage& image, const CheckpointId& id);
  Result<CheckpointManifest> write_pieces(CheckpointLayout& layout, const CheckpointId& id);
  Result<void> write_pages(DirectFile& file, CheckpointImage& image);
  std::vector<Error> remove_old();
  std::vector<CheckpointReport> reports();
  CheckpointReport& report_of(const CheckpointId& id);

  const CheckpointOptions options;
  ThreadPool& threads;
  SizeClassPool& memory;
  FolderLock lock;
  std::unique_ptr<FileEngine> engine;  // the writer's thread's
  std::uint64_t sequence = 0;          // of the next checkpoint; the caller's
  struct {
    CheckpointId id;
    std::shared_ptr<CheckpointImage> image;  // null: everything is settled
  } unsettled;                               // the caller's
  std::vector<CheckpointId> kept;            // committed ones, the oldest first; the writer's thread's

  std::mutex mutex;  // of all below
  std::condition_variable changed;
  std::deque<Job> jobs;  // the first one is under way
  std::vector<CheckpointReport> ended;
  bool stopping = false;
  std::thread thread;
};

void CheckpointWriter::Parts::run() {
  std::unique_lock guard(mutex);
  for (;;) {
    changed.wait(guard, [this] { return stopping || !jobs.empty(); });
    if (jobs.empty()) return;
    Job& job = jobs.front();
    guard.unlock();
    job.image->copy();
    const auto start = Clock::now();
    try {
      take_note(job.report, write(job));
    } catch (const std::exception& exception) {
      engine->abandon();
      job.report.committed = fail(ErrorCode::kInternal, "[checkpoint] {}", exception.what());
    }
    job.report.write_seconds = seconds_since(start);
    guard.lock();
    ended.push_back(std::move(job.report));
    jobs.pop_front();  // and its memory goes back to the pool
    changed.notify_all();
  }
}

Result<void> CheckpointWriter::Parts::write(Job& job) {
  const CheckpointId& id = job.report.id;
  {
    // Whoever copied the last piece tells the other one.
    std::unique_lock guard(mutex);
    changed.notify_all();
    changed.wait(guard, [&] { return job.image->is_copied(); });
  }
  return commit(id, write_data(*job.image, id));
}

void CheckpointWriter::Parts::take_note(CheckpointReport& report, Result<void> committed) {
  report.committed = std::move(committed);
  if (!report.committed) return;
  kept.push_back(report.id);
  report.leftovers = remove_old();
}

// The manifest of data that are on the disk; where they are not, what there is of them goes away.
Result<void> CheckpointWriter::Parts::commit(const CheckpointId& id, const Result<CheckpointManifest>& manifest) {
  if (!manifest) {
    remove_remains(options.folder / id.data_name());
    return std::unexpected(manifest.error());
  }
  const fs::path path = options.folder / id.manifest_name();
  const std::string text = manifest_text(*manifest);
  formats::AtomicFile file(path);
  file.write(text.data(), text.size());
  if (auto written = file.commit("checkpoint"); !written) {
    remove_remains(options.folder / id.data_name());
    return written;
  }
  return sync_folder(options.folder);
}

Result<CheckpointManifest> CheckpointWriter::Parts::write_data(CheckpointImage& image, const CheckpointId& id) {
  KRAIT_ASSIGN(DirectFile file, DirectFile::create(options.folder / id.data_name(), options.direct));
  KRAIT_TRY(file.allocate(image.pages().size()));
  KRAIT_TRY(write_pages(file, image));
  KRAIT_TRY(file.truncate(image.bytes()));
  KRAIT_TRY(file.sync());
  KRAIT_TRY(sync_folder(options.folder));
  return CheckpointManifest{id, image.bytes(), crc32c(image.header())};
}

// The pages of the header last, since the checksums in it are computed while the others are written.
Result<void> CheckpointWriter::Parts::write_pages(DirectFile& file, CheckpointImage& image) {
  const std::span<const std::byte> pages = image.pages();
  const std::size_t head = std::min<std::size_t>(SizeClassPool::class_bytes(image.header_bytes()), pages.size());
  const auto rest = engine->write(file.descriptor(), head, pages.subspan(head));
  image.complete([&] { engine->finished(rest); });
  const auto first = engine->write(file.descriptor(), 0, pages.first(head));
  const int rest_error = engine->wait(rest);
  const int first_error = engine->wait(first);
  if (const int error = rest_error != 0 ? rest_error : first_error; error != 0) {
    return file_failure(error, fmt::format("cannot write {} bytes", image.bytes()), file.path());
  }
  return {};
}

// Through the system's memory for files: pieces begin and end anywhere.
Result<CheckpointManifest> CheckpointWriter::Parts::write_pieces(CheckpointLayout& layout, const CheckpointId& id) {
  KRAIT_ASSIGN(DirectFile file, DirectFile::create(options.folder / id.data_name(), /*direct=*/false));
  KRAIT_TRY(file.allocate(layout.file.bytes));
  const auto write = [&](std::uint64_t offset, std::span<const std::byte> bytes) -> Result<void> {
    const int error = engine->wait(engine->write(file.descriptor(), offset, bytes));
    if (error != 0) return file_failure(error, fmt::format("cannot write {} bytes", bytes.size()), file.path());
    return {};
  };
  for (const std::size_t i : layout.file.order) {
    const CheckpointLayout::Source& source = layout.sources[i];
    std::uint32_t crc = 0;
    const auto visit = [&](std::uint64_t offset, std::span<const std::byte> piece) -> Result<void> {
      crc = crc32c(piece, crc);
      return write(layout.file.offsets[i] + offset, piece);
    };
    if (source.piecewise.visit_pieces) {
      KRAIT_TRY(source.piecewise.visit_pieces(PiecewiseTensor::Access::kRead, visit));
    } else {
      KRAIT_TRY(visit(0, source.bytes));
    }
    layout.set_checksum(i, crc);
  }
  const std::span<const std::byte> header = std::as_bytes(std::span(layout.complete_header()));
  KRAIT_TRY(write(0, header));
  KRAIT_TRY(file.truncate(layout.file.bytes));
  KRAIT_TRY(file.sync());
  KRAIT_TRY(sync_folder(options.folder));
  return CheckpointManifest{id, layout.file.bytes, crc32c(header)};
}

std::vector<Error> CheckpointWriter::Parts::remove_old() {
  std::vector<Error> failed;
  const auto note = [&](Result<void> result) {
    if (!result) failed.push_back(std::move(result.error()));
  };
  while (options.keep_last > 0 && kept.size() > static_cast<std::size_t>(options.keep_last)) {
    const CheckpointId old = kept.front();
    kept.erase(kept.begin());
    // Data without a manifest is swept up by whoever opens the folder; a manifest without data would be an error.
    Result<void> manifest = remove_file(options.folder / old.manifest_name());
    if (manifest) manifest = sync_folder(options.folder);
    if (manifest) note(remove_file(options.folder / old.data_name()));
    note(std::move(manifest));
  }
  return failed;
}

std::vector<CheckpointReport> CheckpointWriter::Parts::reports() {
  const std::lock_guard guard(mutex);
  const auto settled = std::ranges::find_if(
      ended, [&](const CheckpointReport& report) { return unsettled.image != nullptr && report.id == unsettled.id; });
  std::vector<CheckpointReport> result(std::move_iterator(ended.begin()), std::move_iterator(settled));
  ended.erase(ended.begin(), settled);
  return result;
}

// Under the mutex, of one that was not given to the caller yet.
CheckpointReport& CheckpointWriter::Parts::report_of(const CheckpointId& id) {
  for (Job& job : jobs) {
    if (job.report.id == id) return job.report;
  }
  for (CheckpointReport& report : ended) {
    if (report.id == id) return report;
  }
  KRAIT_CHECK(false, "no checkpoint {} is under way", id.stem());
}

Result<std::unique_ptr<CheckpointWriter>> CheckpointWriter::open(CheckpointOptions options, ThreadPool& threads,
                                                                 SizeClassPool& memory) {
  if (options.keep_last < 0 || options.snapshots < 1) {
    return fail(ErrorCode::kInvalidArgument,
                "[checkpoint] keep_last must be 0 or more and snapshots 1 or more, not {} and {}", options.keep_last,
                options.snapshots);
  }
  KRAIT_ASSIGN(FolderLock lock, FolderLock::take(options.folder));
  KRAIT_ASSIGN(const CheckpointFiles files, list_checkpoint_files(options.folder));
  KRAIT_TRY(sweep(options.folder, files));
  KRAIT_ASSIGN(auto engine, FileEngine::create(options.engine));
  auto parts = std::make_unique<Parts>(std::move(options), threads, memory, std::move(lock), std::move(engine));
  parts->kept = files.manifests;
  for (const auto* ids : {&files.manifests, &files.data}) {
    if (!ids->empty()) parts->sequence = std::max(parts->sequence, ids->back().sequence + 1);
  }
  return std::unique_ptr<CheckpointWriter>(new CheckpointWriter(std::move(parts)));
}

CheckpointWriter::CheckpointWriter(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {
  parts_->thread = quiet_thread([parts = parts_.get()] { parts->run(); });
}

CheckpointWriter::~CheckpointWriter() {
  settle();
  {
    const std::lock_guard guard(parts_->mutex);
    parts_->stopping = true;
  }
  parts_->changed.notify_all();
  parts_->thread.join();
}

Result<void> CheckpointWriter::prepare(std::span<const StateProvider* const> providers) {
  std::vector<CheckpointImage> images;  // whose memory stays with the pool
  for (int i = 0; i < parts_->options.snapshots; ++i) {
    KRAIT_ASSIGN(auto image, CheckpointImage::begin(0, providers, parts_->memory));
    image.copy(parts_->threads);
    images.push_back(std::move(image));
  }
  return {};
}

Result<SaveOutcome> CheckpointWriter::begin_save(std::int64_t step, std::span<const StateProvider* const> providers) {
  settle();
  if (step < 0) return fail(ErrorCode::kInvalidArgument, "[checkpoint] step {} is negative", step);
  Parts& parts = *parts_;
  const auto start = Clock::now();
  {
    std::unique_lock guard(parts.mutex);
    const auto has_place = [&] { return parts.jobs.size() < static_cast<std::size_t>(parts.options.snapshots); };
    if (!has_place() && parts.options.when_busy == WhenBusy::kSkip) return SaveOutcome::kSkipped;
    parts.changed.wait(guard, has_place);
  }
  Parts::Job job;
  job.report.id = {parts.sequence, step};
  job.report.waited_seconds = seconds_since(start);
  const auto copying = Clock::now();
  KRAIT_ASSIGN(CheckpointImage image, CheckpointImage::begin(step, providers, parts.memory));
  job.image = std::make_shared<CheckpointImage>(std::move(image));
  job.report.bytes = job.image->bytes();
  job.report.snapshot_seconds = seconds_since(copying);
  parts.unsettled = {job.report.id, job.image};
  ++parts.sequence;
  {
    const std::lock_guard guard(parts.mutex);
    parts.jobs.push_back(std::move(job));
  }
  parts.changed.notify_all();
  return SaveOutcome::kStarted;
}

void CheckpointWriter::settle() {
  Parts& parts = *parts_;
  const auto image = std::move(parts.unsettled.image);
  if (image == nullptr) return;
  const auto start = Clock::now();
  if (!image->is_copied()) image->copy(parts.threads);
  std::unique_lock guard(parts.mutex);
  parts.changed.notify_all();
  parts.changed.wait(guard, [&] { return image->is_copied(); });
  parts.report_of(parts.unsettled.id).snapshot_seconds += seconds_since(start);
}

Result<SaveOutcome> CheckpointWriter::save(std::int64_t step, std::span<const StateProvider* const> providers) {
  auto outcome = begin_save(step, providers);
  settle();
  return outcome;
}

Result<void> CheckpointWriter::save_in_pieces(std::int64_t step, std::span<const StateProvider* const> providers) {
  Parts& parts = *parts_;
  settle();
  const auto start = Clock::now();
  {
    std::unique_lock guard(parts.mutex);
    parts.changed.wait(guard, [&] { return parts.jobs.empty(); });
  }
  CheckpointReport report;
  report.id = {parts.sequence, step};
  report.waited_seconds = seconds_since(start);
  const auto writing = Clock::now();
  KRAIT_ASSIGN(CheckpointLayout layout, CheckpointLayout::of(step, providers));
  report.bytes = layout.file.bytes;
  ++parts.sequence;
  // Nobody else is at the engine and at what is kept while there are no jobs.
  parts.take_note(report, parts.commit(report.id, parts.write_pieces(layout, report.id)));
  report.snapshot_seconds = report.write_seconds = seconds_since(writing);
  const std::lock_guard guard(parts.mutex);
  parts.ended.push_back(std::move(report));
  return {};
}

std::vector<CheckpointReport> CheckpointWriter::take_reports() { return parts_->reports(); }

std::vector<CheckpointReport> CheckpointWriter::finish() {
  settle();
  {
    std::unique_lock guard(parts_->mutex);
    parts_->changed.wait(guard, [this] { return parts_->jobs.empty(); });
  }
  return parts_->reports();
}

std::string_view CheckpointWriter::engine_name() const { return parts_->engine->name(); }

}  // namespace krait::train
