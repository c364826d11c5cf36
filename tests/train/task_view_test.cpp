#include "krait/train/task_view.h"

#include <gtest/gtest.h>

namespace krait::train {
namespace {

std::shared_ptr<const Task> task_of(std::string_view name) {
  auto made = make_task(name);
  EXPECT_TRUE(made) << made.error().message;
  return *std::move(made);
}

TEST(TaskView, KeepsTheFirstExamplesAndAllThatAreHeldOut) {
  const auto task = task_of("parity");
  const auto viewed = view_task(task, {.examples = 10});
  ASSERT_TRUE(viewed) << viewed.error().message;
  EXPECT_EQ((*viewed)->examples(), 10);
  EXPECT_EQ((*viewed)->vocabulary(), task->vocabulary());
  EXPECT_EQ((*viewed)->longest(), task->longest());
  for (std::uint64_t i = 0; i < 10; ++i) {
    EXPECT_EQ((*viewed)->example(3, i).ids, task->example(3, i).ids);
    EXPECT_EQ((*viewed)->example(3, i).labels, task->example(3, i).labels);
    EXPECT_EQ((*viewed)->example(3, i).prefix, 0);
  }
  for (const HeldOut part : {HeldOut::validation, HeldOut::test}) {
    const auto held_out = (*viewed)->held_out(part);
    ASSERT_NE(held_out, nullptr);
    EXPECT_EQ(held_out->examples(), 0) << "held-out examples are without end";
    EXPECT_EQ(held_out->example(4, 1000).ids, task->example(4, 1000).ids);
  }
  const auto fewer = view_task(*viewed, {.examples = 11});
  ASSERT_FALSE(fewer);
  EXPECT_NE(fewer.error().message.find("11, there are 10"), std::string::npos) << fewer.error().message;
}

TEST(TaskView, ReadsInBothDirections) {
  const auto task = task_of("list_ops");
  const auto viewed = view_task(task, {.bidirectional = true});
  ASSERT_TRUE(viewed) << viewed.error().message;
  EXPECT_EQ((*viewed)->examples(), 0);
  EXPECT_EQ((*viewed)->hidden_share(), 0.1);
  for (const std::shared_ptr<const Task>& one : {*viewed, (*viewed)->held_out(HeldOut::test)}) {
    const Example example = one->example(1, 5);
    EXPECT_EQ(example.prefix, example.length());
    EXPECT_EQ(example.ids, task->example(1, 5).ids);
  }
}

TEST(TaskView, KeepsAnswersFromWhoReadsBackwards) {
  const auto refused = view_task(task_of("phone_book"), {.bidirectional = true});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("backwards"), std::string::npos);
  EXPECT_TRUE(view_task(task_of("phone_book"), {.examples = 5}));
}

TEST(TaskView, PoolsExamplesOfOneAnswerAtTheEnd) {
  const auto viewed = view_task(task_of("list_ops"), {.pooled = true});
  ASSERT_TRUE(viewed) << viewed.error().message;
  for (const std::shared_ptr<const Task>& one : {*viewed, (*viewed)->held_out(HeldOut::test)}) {
    EXPECT_TRUE(one->example(1, 5).pooled);
    EXPECT_TRUE(task_batch(*one, 1, 0, 3).pooled);
  }
  EXPECT_FALSE(task_batch(*task_of("list_ops"), 1, 0, 3).pooled);
  const auto refused = view_task(task_of("associative_recall"), {.pooled = true});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("several places"), std::string::npos) << refused.error().message;
}

}  // namespace
}  // namespace krait::train
