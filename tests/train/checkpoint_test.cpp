#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <iterator>
#include <optional>
#include <thread>

#include "krait/formats/safetensors.h"
#include "krait/train/checkpoint_image.h"
#include "krait/train/checkpoint_reader.h"
#include "krait/train/checkpoint_writer.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"
#include "tests/train/training_state.h"

namespace krait::train {
namespace {

namespace fs = std::filesystem;
using tests::expect_error;
using tests::TrainingState;

class CheckpointTest : public testing::Test {
 protected:
  std::unique_ptr<CheckpointWriter> open(CheckpointOptions options = {}) {
    options.folder = folder();
    auto writer = CheckpointWriter::open(options, threads_, memory_);
    EXPECT_TRUE(writer.has_value()) << (writer ? "" : writer.error().message);
    return writer ? *std::move(writer) : nullptr;
  }
  // Saves the state of that step and waits for it.
  void save(CheckpointWriter& writer, std::int64_t step) {
    state_->set(step);
    const auto started = writer.save(step, state_->providers());
    ASSERT_TRUE(started.has_value()) << started.error().message;
    const auto reports = writer.finish();
    ASSERT_EQ(reports.size(), 1U);
    ASSERT_TRUE(reports[0].committed.has_value()) << reports[0].committed.error().message;
    EXPECT_EQ(reports[0].id.step, step);
    EXPECT_TRUE(reports[0].leftovers.empty());
  }
  void save(std::int64_t step) { save(*open(), step); }

  void expect_holds(const Checkpoint& checkpoint, std::int64_t step) {
    EXPECT_EQ(checkpoint.step(), step);
    state_->set(step);
    const auto expected = state_->expected();
    ASSERT_EQ(checkpoint.tensors().size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(checkpoint.tensors()[i].name, expected[i].name);
      std::vector<std::byte> bytes(expected[i].bytes.size());
      const auto read = checkpoint.read(expected[i].name, expected[i].dtype, expected[i].shape, bytes);
      ASSERT_TRUE(read.has_value()) << read.error().message;
      EXPECT_TRUE(std::ranges::equal(bytes, expected[i].bytes)) << expected[i].name << " of step " << step;
    }
  }
  // What the newest whole checkpoint holds, and how many newer ones were passed over.
  void expect_newest(std::int64_t step, std::size_t passed_over = 0) {
    KRAIT_ASSERT_VALUE(const auto newest, open_newest_checkpoint(folder(), threads_));
    EXPECT_EQ(newest.passed_over.size(), passed_over);
    expect_holds(newest.checkpoint, step);
  }

  fs::path folder() const { return temporary_.path() / "checkpoints"; }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder())) names.push_back(entry.path().filename());
    std::ranges::sort(names);
    return names;
  }
  // Flips one bit of a file.
  void damage(const std::string& name, std::int64_t from_end) const {
    std::fstream file(folder() / name, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(-from_end, std::ios::end);
    const char byte = static_cast<char>(file.get() ^ 4);
    file.seekp(-from_end, std::ios::end);
    file.put(byte);
    ASSERT_TRUE(file.good());
  }

  tests::TemporaryFolder temporary_;
  ThreadPool threads_{2};
  SizeClassPool memory_;
  std::optional<TrainingState> state_{std::in_place};
};

TEST_F(CheckpointTest, WhatIsSavedIsReadBack) {
  for (const FileEngineKind engine : {FileEngineKind::kAutomatic, FileEngineKind::kThreads}) {
    for (const bool direct : {false, true}) {
      const auto writer = open({.engine = engine, .direct = direct});
      ASSERT_NE(writer, nullptr);
      for (const std::int64_t step : {0, 7}) {
        save(*writer, step);
        expect_newest(step);
      }
    }
  }
}

TEST_F(CheckpointTest, TheDataIsASafetensorsFile) {
  save(12);
  KRAIT_ASSERT_VALUE(const auto source,
                     formats::open_safetensors(folder() / "checkpoint-000000-step-12.safetensors", formats::Config()));
  KRAIT_ASSERT_VALUE(const TensorView view, source->view("parameters/layers.0.weight"));
  EXPECT_EQ(view.dtype, DType::kF32);
  EXPECT_TRUE(std::ranges::equal(view.bytes, state_->expected().back().bytes));
}

TEST_F(CheckpointTest, LargeStatesOfSeveralPieces) {
  state_.emplace(1'500'000);
  const auto writer = open();
  for (const std::int64_t step : {1, 2}) {
    save(*writer, step);
    expect_newest(step);
  }
}

TEST_F(CheckpointTest, ASnapshotDoesNotSeeWhatComesAfterIt) {
  state_.emplace(2'000'000);
  const auto writer = open({.snapshots = 2});
  for (std::int64_t step = 1; step <= 4; ++step) {
    state_->set(step);
    ASSERT_TRUE(writer->save(step, state_->providers()).has_value());
    state_->set(-step);  // at once, while the writer is at it
  }
  for (const auto& report : writer->finish()) EXPECT_TRUE(report.committed.has_value());
  for (const CheckpointId id : {CheckpointId{1, 2}, CheckpointId{2, 3}, CheckpointId{3, 4}}) {
    KRAIT_ASSERT_VALUE(const auto checkpoint, Checkpoint::open(folder() / id.manifest_name()));
    expect_holds(checkpoint, id.step);
  }
}

// What a step does between the two, which only reads the state, may take any time; blobs are copied at once.
TEST_F(CheckpointTest, ASnapshotIsTakenWhenItIsSettled) {
  state_.emplace(2'000'000);
  const auto writer = open({.keep_last = 0, .snapshots = 2});
  for (std::int64_t step = 1; step <= 6; ++step) {
    state_->set(step);
    ASSERT_TRUE(writer->begin_save(step, state_->providers()).has_value());
    if (step % 2 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(30));
    for (const auto& report : writer->take_reports()) EXPECT_LT(report.id.step, step);
    writer->settle();
    writer->settle();  // for nothing
    state_->set(-step);
  }
  const auto reports = writer->finish();
  EXPECT_FALSE(reports.empty());
  for (const auto& report : reports) EXPECT_TRUE(report.committed.has_value());
  for (std::uint64_t i = 0; i < 6; ++i) {
    const CheckpointId id{i, static_cast<std::int64_t>(i) + 1};
    KRAIT_ASSERT_VALUE(const auto checkpoint, Checkpoint::open(folder() / id.manifest_name()));
    expect_holds(checkpoint, id.step);
  }
}

// The same file, whichever way it was written.
TEST_F(CheckpointTest, InPiecesIsTheSameFile) {
  // A tensor that is handed out five bytes at a time.
  class Piecewise final : public StateProvider {
   public:
    explicit Piecewise(const StateProvider& of) : of_(of) {}
    std::string name() const override { return of_.name(); }
    Result<ProvidedState> state() const override {
      KRAIT_ASSIGN(const ProvidedState whole, of_.state());
      ProvidedState state{.tensors = {}, .blobs = whole.blobs};
      for (const auto& [name, view] : whole.tensors) {
        const auto visit_pieces = [bytes = view.bytes](PiecewiseTensor::Access,
                                                       const PiecewiseTensor::Visit& visit) -> Result<void> {
          std::vector<std::byte> copy(bytes.begin(), bytes.end());
          for (std::size_t done = 0; done < copy.size(); done += 5) {
            KRAIT_TRY(visit(done, std::span(copy).subspan(done, std::min<std::size_t>(5, copy.size() - done))));
          }
          return {};
        };
        state.piecewise.push_back({name, view.dtype, view.shape, view.bytes.size(), visit_pieces});
      }
      return state;
    }

   private:
    const StateProvider& of_;
  };
  const auto writer = open();
  save(*writer, 3);
  const auto whole = state_->providers();
  std::vector<Piecewise> piecewise;
  for (const StateProvider* provider : whole) piecewise.emplace_back(*provider);
  std::vector<const StateProvider*> views;
  for (const Piecewise& provider : piecewise) views.push_back(&provider);
  ASSERT_TRUE(writer->save_in_pieces(3, views).has_value());
  for (const auto& report : writer->finish()) ASSERT_TRUE(report.committed.has_value());
  expect_newest(3);
  const auto content = [&](std::uint64_t sequence) {
    std::ifstream file(folder() / CheckpointId{sequence, 3}.data_name(), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  EXPECT_FALSE(content(0).empty());
  EXPECT_EQ(content(1), content(0));
  // A snapshot needs it all in memory.
  expect_error(writer->save(4, views), ErrorCode::kInvalidArgument, {"not in memory"});
}

TEST_F(CheckpointTest, MemoryIsForAsManySnapshotsAsWereAllowed) {
  state_.emplace(1'000'000);
  for (const int snapshots : {1, 3}) {
    SizeClassPool memory;
    CheckpointOptions options{.folder = folder(), .snapshots = snapshots};
    KRAIT_ASSERT_VALUE(const auto writer, CheckpointWriter::open(options, threads_, memory));
    ASSERT_TRUE(writer->prepare(state_->providers()).has_value());
    const std::uint64_t prepared = memory.use().reserved;
    std::uint64_t bytes = 0;
    for (std::int64_t step = 1; step <= 6; ++step) {
      state_->set(step);  // with a blob of another length
      ASSERT_TRUE(writer->save(step, state_->providers()).has_value());
    }
    for (const auto& report : writer->finish()) bytes = std::max(bytes, report.bytes);
    EXPECT_EQ(memory.use().peak_reserved, prepared);
    EXPECT_LE(prepared, static_cast<std::uint64_t>(snapshots) * (bytes + CheckpointImage::kGrain));
    EXPECT_EQ(memory.use().held, 0U);
  }
}

TEST_F(CheckpointTest, OneThatIsBusyIsSkippedWhereThatIsWanted) {
  state_.emplace(1'000'000);
  const auto writer = open({.keep_last = 0, .when_busy = WhenBusy::kSkip});
  std::vector<std::int64_t> started;
  bool skipped = false;
  for (std::int64_t step = 1; step <= 1000 && !skipped; ++step) {
    KRAIT_ASSERT_VALUE(const SaveOutcome outcome, writer->save(step, state_->providers()));
    skipped = outcome == SaveOutcome::kSkipped;
    if (!skipped) started.push_back(step);
  }
  EXPECT_TRUE(skipped) << "no write took longer than the next call";
  std::vector<std::int64_t> committed;
  for (const auto& report : writer->finish()) {
    if (report.committed) committed.push_back(report.id.step);
  }
  EXPECT_EQ(committed, started);
  EXPECT_EQ(names().size(), 2 * started.size());
}

TEST_F(CheckpointTest, OnlyTheLastAreKept) {
  {
    const auto writer = open({.keep_last = 2});
    for (const std::int64_t step : {10, 20, 30}) save(*writer, step);
  }
  const std::vector<std::string> expected = {"checkpoint-000001-step-20.json", "checkpoint-000001-step-20.safetensors",
                                             "checkpoint-000002-step-30.json", "checkpoint-000002-step-30.safetensors"};
  EXPECT_EQ(names(), expected);
  // Those of an earlier run count.
  save(*open({.keep_last = 1}), 40);
  EXPECT_EQ(names(),
            (std::vector<std::string>{"checkpoint-000003-step-40.json", "checkpoint-000003-step-40.safetensors"}));
}

TEST_F(CheckpointTest, TheNewestIsTheOneCommittedLastWhateverItsStep) {
  for (const std::int64_t step : {10, 20, 15, 15}) save(step);
  expect_newest(15);
  EXPECT_EQ(names().size(), 6U);
}

TEST_F(CheckpointTest, DamagedOnesArePassedOverWithTheReason) {
  for (const std::int64_t step : {1, 2, 3}) save(step);
  damage("checkpoint-000002-step-3.safetensors", 1);
  {
    KRAIT_ASSERT_VALUE(const auto newest, open_newest_checkpoint(folder(), threads_));
    expect_holds(newest.checkpoint, 2);
    ASSERT_EQ(newest.passed_over.size(), 1U);
    EXPECT_NE(newest.passed_over[0].message.find("tensor \"cursor/state\" is damaged"), std::string::npos)
        << newest.passed_over[0].message;
  }
  damage("checkpoint-000001-step-2.json", 30);
  expect_newest(1, 2);
  fs::remove(folder() / "checkpoint-000000-step-1.safetensors");
  expect_error(open_newest_checkpoint(folder(), threads_), ErrorCode::kCorrupt, {"none of 3", "cursor/state"});
  // And training goes on from there if its owner likes.
  save(4);
  expect_newest(4);
}

TEST_F(CheckpointTest, EveryChangedByteOfTheDataIsFound) {
  state_.emplace(3);
  save(5);
  const CheckpointId id{0, 5};
  const auto read = [&](const std::string& name) {
    std::ifstream file(folder() / name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  KRAIT_ASSERT_VALUE(const auto manifest, parse_manifest(read(id.manifest_name()), "m"));
  const std::string data = read(id.data_name());
  const auto whole = [&](const std::string& bytes) {
    const auto checkpoint = Checkpoint::parse(manifest, std::as_bytes(std::span(bytes)), "d");
    return checkpoint && checkpoint->verify(threads_);
  };
  ASSERT_TRUE(whole(data));
  for (std::size_t i = 0; i < data.size(); ++i) {
    std::string changed = data;
    changed[i] = static_cast<char>(changed[i] ^ (1 << (i % 8)));
    EXPECT_FALSE(whole(changed)) << "byte " << i;
    EXPECT_FALSE(whole(data.substr(0, i))) << "cut at " << i;
  }
}

TEST_F(CheckpointTest, WhatAnInterruptedWriterLeftIsSweptUp) {
  save(1);
  const auto write = [&](const std::string& name) { std::ofstream(folder() / name) << "x"; };
  write("checkpoint-000007-step-9.safetensors");
  write("checkpoint-000007-step-9.json.99-0.partial");
  write("notes.safetensors");
  save(2);
  EXPECT_EQ(names(), (std::vector<std::string>{"checkpoint-000000-step-1.json", "checkpoint-000000-step-1.safetensors",
                                               "checkpoint-000008-step-2.json", "checkpoint-000008-step-2.safetensors",
                                               "notes.safetensors"}));
}

TEST_F(CheckpointTest, AFolderHasOneWriter) {
  const auto writer = open();
  expect_error(CheckpointWriter::open({.folder = folder()}, threads_, memory_), ErrorCode::kResourceExhausted,
               {"another writer", "checkpoints"});
}

TEST_F(CheckpointTest, AFailedWriteIsReportedAndTheNextOneSucceeds) {
  const auto writer = open();
  save(*writer, 1);
  fs::remove_all(folder());
  ASSERT_TRUE(writer->save(2, state_->providers()).has_value());
  const auto reports = writer->finish();
  ASSERT_EQ(reports.size(), 1U);
  expect_error(reports[0].committed, ErrorCode::kInputOutput, {"cannot create", "step-2.safetensors"});
  fs::create_directory(folder());
  save(*writer, 3);
  expect_newest(3);
}

TEST_F(CheckpointTest, AFileThatMayNotGrowIsAnErrorAndLeavesNothing) {
  state_.emplace(500'000);
  const auto writer = open();
  save(*writer, 1);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{1 << 20, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  ASSERT_TRUE(writer->save(2, state_->providers()).has_value());
  const auto reports = writer->finish();
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ASSERT_EQ(reports.size(), 1U);
  expect_error(reports[0].committed, ErrorCode::kResourceExhausted, {"step-2.safetensors"});
  EXPECT_EQ(names().size(), 2U);
  expect_newest(1);
  save(*writer, 3);
  expect_newest(3);
}

TEST_F(CheckpointTest, TooLittleMemoryIsAnErrorOfTheSave) {
  SizeClassPool small(CheckpointImage::kGrain - 1);
  KRAIT_ASSERT_VALUE(const auto writer, CheckpointWriter::open({.folder = folder()}, threads_, small));
  expect_error(writer->save(1, state_->providers()), ErrorCode::kResourceExhausted, {"[memory]", "65536"});
  EXPECT_TRUE(writer->finish().empty());
}

TEST_F(CheckpointTest, StatesThatMakeNoFileAreRefused) {
  const auto writer = open();
  const std::array<std::byte, 4> bytes{};
  const auto refused = [&](const StateProvider& first, const StateProvider& second, const char* says) {
    const StateProvider* both[] = {&first, &second};
    expect_error(writer->save(1, both), ErrorCode::kInvalidArgument, {says});
  };
  const TensorStateProvider good("good", {{"t", {DType::kF32, {1}, bytes}}});
  refused(good, good, "\"good\" cannot name a provider");
  refused(good, TensorStateProvider("a/b", {}), "\"a/b\" cannot name");
  refused(good, TensorStateProvider("", {}), "\"\" cannot name");
  refused(good, TensorStateProvider("x", {{"t", {DType::kF32, {2}, bytes}}}), "\"x/t\" of shape [2]");
  const formats::NamedTensor twice{"t", {DType::kF32, {1}, bytes}};
  refused(good, TensorStateProvider("x", {twice, twice}), "\"x/t\" is given twice");
  expect_error(writer->save(-1, state_->providers()), ErrorCode::kInvalidArgument, {"-1"});
  expect_error(CheckpointWriter::open({.folder = temporary_.path() / "n", .keep_last = -1}, threads_, memory_),
               ErrorCode::kInvalidArgument, {"keep_last", "-1"});
  save(*writer, 1);
}

TEST_F(CheckpointTest, ARunOfAnotherShapeIsToldSo) {
  save(1);
  KRAIT_ASSERT_VALUE(const auto newest, open_newest_checkpoint(folder(), threads_));
  std::array<std::byte, 24> out{};
  const Checkpoint& checkpoint = newest.checkpoint;
  expect_error(checkpoint.read("moments/counts", DType::kF64, Shape{3}, out), ErrorCode::kInvalidArgument,
               {"[3] of i64", "[3] of f64"});
  expect_error(checkpoint.read("moments/counts", DType::kI64, Shape{3, 1}, out), ErrorCode::kInvalidArgument,
               {"[3, 1]"});
  expect_error(checkpoint.read("moments/none", DType::kI64, Shape{3}, out), ErrorCode::kNotFound, {"moments/none"});
}

TEST_F(CheckpointTest, ThereIsNone) {
  expect_error(open_newest_checkpoint(folder(), threads_), ErrorCode::kNotFound, {"cannot list"});
  fs::create_directory(folder());
  expect_error(open_newest_checkpoint(folder(), threads_), ErrorCode::kNotFound, {"there is none"});
}

}  // namespace
}  // namespace krait::train
