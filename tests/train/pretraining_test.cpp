// What self-pretraining reads: a task's own inputs and nothing else, in an order that can be gone on with.
#include "krait/train/pretraining.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "krait/train/task_view.h"

namespace krait::train {
namespace {

constexpr std::int64_t kBatch = 4;

std::shared_ptr<const Task> small_task(const TaskView& view = {}) {
  auto made = make_task("parity", {{"length", 40}, {"shortest", 20}});
  EXPECT_TRUE(made) << made.error().message;
  auto viewed = view_task(*std::move(made), view);
  EXPECT_TRUE(viewed) << viewed.error().message;
  return *viewed;
}

PretrainingSource source_of(const std::shared_ptr<const Task>& task, const PretrainingOptions& options) {
  return {std::make_unique<TaskSource>(task, 7, kBatch),
          options,
          static_cast<std::int32_t>(task->vocabulary()),
          {.batch = kBatch, .seed = 7}};
}

TEST(PretrainingSource, HidesPlacesOfTheInputsAndAsksForThem) {
  const auto task = small_task();
  PretrainingSource source = source_of(task, {.steps = 10, .masked = true, .places = {.share = 0.25, .span = 1}});
  TaskSource inputs(task, 7, kBatch);
  std::set<std::int64_t> places;
  for (int step = 0; step < 10; ++step) {
    const Batch hidden = *source.next(), plain = *inputs.next();
    ASSERT_EQ(hidden.ids.size(), plain.ids.size());
    for (std::size_t i = 0; i < hidden.segments.size(); ++i) {
      const BatchSegment& segment = hidden.segments[i];
      EXPECT_EQ(segment.first, plain.segments[i].first);
      EXPECT_EQ(segment.rows, plain.segments[i].rows);
      std::int64_t count = 0;
      for (std::int64_t row = segment.first; row < segment.first + segment.rows; ++row) {
        const auto at = static_cast<std::size_t>(row);
        const bool asked = hidden.labels[at] != kNoLabel;
        count += asked ? 1 : 0;
        // Neither a label of the task nor a token of another place is in it.
        EXPECT_EQ(hidden.ids[at], asked ? task->vocabulary() : plain.ids[at]);
        if (asked) {
          EXPECT_EQ(hidden.labels[at], plain.ids[at]);
          places.insert(row - segment.first);
        }
      }
      if (segment.padding) {
        EXPECT_EQ(count, 0);
        continue;
      }
      EXPECT_EQ(count, segment.rows / 4);
      EXPECT_EQ(segment.prefix, segment.rows) << "it is read in both directions";
    }
  }
  EXPECT_GT(places.size(), 30U) << "other places at every step";
}

TEST(PretrainingSource, AsksForTheNextTokenReadingForwards) {
  const auto task = small_task({.bidirectional = true});
  PretrainingSource source = source_of(task, {.steps = 10, .masked = false});
  TaskSource inputs(task, 7, kBatch);
  const Batch causal = *source.next(), plain = *inputs.next();
  EXPECT_EQ(causal.ids, plain.ids);
  for (const BatchSegment& segment : causal.segments) {
    EXPECT_EQ(segment.prefix, 0) << "what is read backwards tells the next token";
    for (std::int64_t row = segment.first; row < segment.first + segment.rows; ++row) {
      const bool last = segment.padding || row + 1 == segment.first + segment.rows;
      EXPECT_EQ(causal.labels[static_cast<std::size_t>(row)],
                last ? kNoLabel : plain.ids[static_cast<std::size_t>(row + 1)]);
    }
  }
}

TEST(PretrainingSource, HidesTheSameInSeveralProcesses) {
  const auto task = small_task();
  const PretrainingOptions options{.steps = 10, .places = {.share = 0.25, .span = 1}};
  const auto part = [&](std::int64_t rank) {
    const DataLoaderOptions loader{.batch = kBatch / 2, .seed = 7, .rank = rank, .ranks = 2};
    return PretrainingSource(std::make_unique<TaskSource>(task, 7, loader.batch, rank, 2), options,
                             static_cast<std::int32_t>(task->vocabulary()), loader);
  };
  PretrainingSource whole = source_of(task, options), left = part(0), right = part(1);
  for (int step = 0; step < 3; ++step) {
    Batch both = *left.next();
    const Batch more = *right.next(), all = *whole.next();
    both.ids.insert(both.ids.end(), more.ids.begin(), more.ids.end());
    both.labels.insert(both.labels.end(), more.labels.begin(), more.labels.end());
    EXPECT_EQ(both.ids, all.ids);
    EXPECT_EQ(both.labels, all.labels);
  }
}

TEST(PretrainingSource, GoesOnFromItsPlace) {
  const auto task = small_task({.examples = 13});
  const PretrainingOptions options{.steps = 10, .places = {.share = 0.3, .span = 2}};
  PretrainingSource unbroken = source_of(task, options), resumed = source_of(task, options);
  for (int step = 0; step < 5; ++step) ASSERT_TRUE(unbroken.next());
  ASSERT_TRUE(resumed.seek(unbroken.place()));
  for (int step = 0; step < 5; ++step) {
    const Batch one = *unbroken.next(), other = *resumed.next();
    EXPECT_EQ(one.ids, other.ids);
    EXPECT_EQ(one.labels, other.labels);
    EXPECT_EQ(one.segments, other.segments);
  }
  EXPECT_FALSE(resumed.seek(std::vector<std::uint64_t>{}));
  EXPECT_FALSE(resumed.seek(std::vector<std::uint64_t>{1}));
}

TEST(TaskSource, GivesAFiniteSetInAnOrderForEachEpoch) {
  constexpr std::int64_t kExamples = 10;
  const auto task = small_task({.examples = kExamples});
  std::vector<std::vector<std::int32_t>> known;
  for (std::uint64_t i = 0; i < kExamples; ++i) {
    known.push_back(task->example(7, i).ids);
    known.back().resize(static_cast<std::size_t>(task->longest()), 0);
  }
  TaskSource source(task, 7, kBatch);
  std::vector<std::size_t> order;
  for (std::int64_t given = 0; given < 2 * kExamples; given += kBatch) {
    const Batch batch = *source.next();
    for (std::int64_t row = 0; row < kBatch; ++row) {
      const auto begin = batch.ids.begin() + row * batch.length;
      const std::vector<std::int32_t> ids(begin, begin + batch.length);
      const auto found = std::ranges::find(known, ids);
      ASSERT_NE(found, known.end()) << "an example beyond the set";
      order.push_back(static_cast<std::size_t>(found - known.begin()));
    }
  }
  const std::vector first(order.begin(), order.begin() + kExamples), second(order.begin() + kExamples, order.end());
  for (const auto& epoch : {first, second}) EXPECT_EQ(std::set(epoch.begin(), epoch.end()).size(), kExamples);
  EXPECT_NE(first, second);

  // Two processes have the examples of one between them.
  TaskSource left(task, 7, kBatch / 2, 0, 2), right(task, 7, kBatch / 2, 1, 2), whole(task, 7, kBatch);
  for (int step = 0; step < 6; ++step) {
    std::vector<std::int32_t> both = left.next()->ids;
    const Batch more = *right.next();
    both.insert(both.end(), more.ids.begin(), more.ids.end());
    EXPECT_EQ(both, whole.next()->ids);
  }
}

TEST(PretrainingOptions, AreRead) {
  const auto read = [](const std::string& text) {
    auto file = ConfigFile::parse(text, "run.toml");
    EXPECT_TRUE(file) << file.error().message;
    PretrainingOptions options = read_pretraining(file->table("pretrain"));
    const auto done = file->finish();
    return std::pair(options, done ? std::string() : done.error().message);
  };
  EXPECT_EQ(read("").first.steps, 0);
  const auto [two_lines, fine] = read("[pretrain]\nobjective = \"masked\"\nsteps = 20\n");
  EXPECT_EQ(fine, "");
  EXPECT_EQ(two_lines.steps, 20);
  EXPECT_TRUE(two_lines.masked);
  EXPECT_FALSE(read("[pretrain]\nobjective = \"causal\"\nsteps = 20\n").first.masked);
  EXPECT_NE(read("[pretrain]\nobjective = \"masked\"\n").second.find("'steps' in [pretrain] is missing"),
            std::string::npos);
  EXPECT_NE(read("[pretrain]\nsteps = 1\nobjective = \"blind\"\n").second.find("'blind'"), std::string::npos);
  EXPECT_NE(read("[pretrain]\nsteps = 1\nobjective = \"causal\"\nshare = 0.5\n").second.find("run.toml:4:"),
            std::string::npos);
  const TrainerOptions training{.schedule = {.peak = 2.0, .warm_up = 3, .steps = 100},
                                .optimiser = {.average_decay = 0.9}};
  TrainerOptions trainer = pretraining_trainer({.steps = 20}, training);
  EXPECT_EQ(trainer.schedule.steps, 20);
  EXPECT_EQ(trainer.schedule.peak, 2.0);
  EXPECT_EQ(trainer.schedule.warm_up, 3);
  EXPECT_EQ(trainer.optimiser.average_decay, 0.0);
  trainer = pretraining_trainer({.steps = 20, .rate = 0.5, .warm_up = 0}, training);
  EXPECT_EQ(trainer.schedule.peak, 0.5);
  EXPECT_EQ(trainer.schedule.warm_up, 0);
}

}  // namespace
}  // namespace krait::train
