// What checkpoint_crash_test.py runs, and mostly kills:
//   checkpoint_crash_child fill FOLDER ENGINE ELEMENTS STEP    saves checkpoints from STEP on until it is killed, and
//       prints "saving STEP" before each and "committed STEP" when the writer has reported it
//   checkpoint_crash_child check FOLDER                        opens the newest one, compares every byte with what its
//       step must hold, and prints "held STEP ELEMENTS" and "passed REASON" for each that it passed over
//   checkpoint_crash_child once FOLDER ENGINE ELEMENTS STEP    saves one, and prints "committed STEP" or "failed CODE:
//       MESSAGE"
// ENGINE is uring or threads.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "krait/train/checkpoint_reader.h"
#include "krait/train/checkpoint_writer.h"
#include "tests/train/training_state.h"

namespace krait::train {
namespace {

void say(const char* what, const std::string& which) {
  std::printf("%s %s\n", what, which.c_str());
  std::fflush(stdout);
}

int failed(const Error& error) {
  say("failed", fmt::format("{}: {}", to_string(error.code), error.message));
  return 0;
}

void say_reports(const std::vector<CheckpointReport>& reports) {
  for (const CheckpointReport& report : reports) {
    if (!report.committed) failed(report.committed.error());
    for (const Error& error : report.leftovers) failed(error);
    if (report.committed) say("committed", std::to_string(report.id.step));
  }
}

int fill(const CheckpointOptions& options, std::int64_t elements, std::int64_t first, bool once) {
  ThreadPool threads(2);
  SizeClassPool memory;
  auto writer = CheckpointWriter::open(options, threads, memory);
  if (!writer) return failed(writer.error());
  tests::TrainingState state(elements);
  say("ready", std::string((*writer)->engine_name()));
  for (std::int64_t step = first;; ++step) {
    state.set(step);
    say("saving", std::to_string(step));
    if (const auto started = (*writer)->save(step, state.providers()); !started) return failed(started.error());
    say_reports(once ? (*writer)->finish() : (*writer)->take_reports());
    if (once) return 0;
  }
}

int check(const std::filesystem::path& folder) {
  ThreadPool threads(2);
  const auto newest = open_newest_checkpoint(folder, threads);
  if (!newest) return failed(newest.error());
  for (const Error& error : newest->passed_over) say("passed", error.message);
  const Checkpoint& checkpoint = newest->checkpoint;
  const auto weight = checkpoint.view("parameters/layers.0.weight");
  if (!weight) return failed(weight.error());
  tests::TrainingState state(weight->shape.at(0));
  state.set(checkpoint.step());
  const auto expected = state.expected();
  bool same = expected.size() == checkpoint.tensors().size();
  for (const auto& tensor : expected) {
    const auto view = checkpoint.view(tensor.name);
    same = same && view && view->shape == tensor.shape && std::ranges::equal(view->bytes, tensor.bytes);
  }
  say(same ? "held" : "damaged", fmt::format("{} {}", checkpoint.step(), weight->shape.at(0)));
  return 0;
}

int run(int count, char** arguments) {
  const std::string what = count > 1 ? arguments[1] : "";
  if (what == "check" && count == 3) return check(arguments[2]);
  if (count != 6) return 2;
  const std::string engine = arguments[3];
  const CheckpointOptions options{.folder = arguments[2],
                                  .keep_last = 2,
                                  .engine = engine == "uring" ? FileEngineKind::kUring : FileEngineKind::kThreads};
  return fill(options, std::atoll(arguments[4]), std::atoll(arguments[5]), what == "once");
}

}  // namespace
}  // namespace krait::train

int main(int count, char** arguments) { return krait::train::run(count, arguments); }
