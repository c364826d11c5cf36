#include "krait/train/task_view.h"

#include <algorithm>

#include "krait/core/check.h"

namespace krait::train {
namespace {

class ViewedTask final : public Task {
 public:
  ViewedTask(std::shared_ptr<const Task> task, const TaskView& view) : task_(std::move(task)), view_(view) {}

  std::int64_t vocabulary() const override { return task_->vocabulary(); }
  std::int64_t longest() const override { return task_->longest(); }
  std::string spell(std::int32_t token) const override { return task_->spell(token); }
  bool shows_answers() const override { return task_->shows_answers(); }
  double hidden_share() const override { return task_->hidden_share(); }
  std::int64_t examples() const override { return view_.examples > 0 ? view_.examples : task_->examples(); }

  Example example(std::uint64_t seed, std::uint64_t index) const override {
    KRAIT_CHECK(examples() == 0 || index < static_cast<std::uint64_t>(examples()), "example {} of {}", index,
                examples());
    Example example = task_->example(seed, index);
    if (view_.bidirectional) example.prefix = example.length();
    example.pooled = view_.pooled;
    return example;
  }

  std::shared_ptr<const Task> held_out(HeldOut part) const override {
    const auto own = task_->held_out(part);
    return std::make_shared<ViewedTask>(own ? own : task_, TaskView{0, view_.bidirectional, view_.pooled});
  }

 private:
  std::shared_ptr<const Task> task_;
  TaskView view_;
};

bool answers_at_the_end_alone(const Example& example) {
  return !example.labels.empty() && example.labels.back() != kNoLabel &&
         std::ranges::count(example.labels, kNoLabel) == example.length() - 1;
}

}  // namespace

Result<std::shared_ptr<const Task>> view_task(std::shared_ptr<const Task> task, const TaskView& view) {
  if (task->examples() > 0 && view.examples > task->examples()) {
    return fail(ErrorCode::kInvalidArgument, "[task] examples is {}, there are {}", view.examples, task->examples());
  }
  if (view.bidirectional && task->shows_answers()) {
    return fail(ErrorCode::kInvalidArgument,
                "[task] bidirectional: answers of this task stand in what is read further on, where a model that reads "
                "backwards sees them");
  }
  if (view.pooled && !answers_at_the_end_alone(task->example(0, 0))) {
    return fail(ErrorCode::kInvalidArgument,
                "[task] pooled: this task is answered at several places, each from what stands before it");
  }
  if (view.examples == 0 && !view.bidirectional && !view.pooled) return task;
  return std::make_shared<ViewedTask>(std::move(task), view);
}

}  // namespace krait::train
