// A scheduler on an engine whose lanes cost what lines say, and a clock that runs as fast as it is computed. As in the
// loop, a first lane steps all or decodes, and while they are apart a second one reads prompts at the same time.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "krait/core/random.h"
#include "krait/server/scheduler.h"

namespace krait::tests {

class SchedulerSimulation {
 public:
  using Id = server::Scheduler::Id;
  struct Job {
    std::string key;
    int priority = 0;
    std::int64_t prompt = 1;
    std::int64_t tokens = 1;
    // What became of it:
    double arrived = 0;
    double began = -1;
    double ended = -1;
    std::int64_t read = 0;
    int parkings = 0;
    std::vector<double> said = {};  // when
  };

  // Steps cost `truth`, give or take `noise` of it; those of lanes apart what set_core_groups() says.
  SchedulerSimulation(const server::SchedulerOptions& options, const server::CostModel::Line& truth, double noise = 0.1)
      : scheduler(options), truth_{truth, truth, truth}, noise_(noise), random_(1) {}

  void set_core_groups(const server::CoreGroups& groups, int cores, const server::CostModel::Line& prompts,
                       const server::CostModel::Line& decodes) {
    truth_[index_of(server::LaneRole::prompts)] = prompts;
    truth_[index_of(server::LaneRole::decodes)] = decodes;
    scheduler.set_core_groups(groups, cores);
  }

  Id submit(Job job) {
    const Id id = ++last_;
    job.arrived = now;
    scheduler.add(id, {.key = job.key, .priority = job.priority, .prompt_tokens = job.prompt, .max_tokens = job.tokens},
                  now);
    jobs[id] = std::move(job);
    return id;
  }

  // Lanes that are free begin a step, as the loop does, and the first step to end ends. False: nothing was to be done.
  bool round() {
    using enum server::LaneRole;
    for (const bool is_first : {true, false}) {
      Step& step = steps_[is_first ? 0 : 1];
      if (step.work.empty() && (is_first || scheduler.apart())) {
        select();
        step.role = !is_first ? prompts : scheduler.apart() ? decodes : mixed;
        if (is_first || scheduler.apart()) step.work = scheduler.step(now, step.role);
        step.seconds = seconds_of(step);
        step.ends = now + step.seconds;
      }
    }
    Step* first = nullptr;
    for (Step& step : steps_) {
      if (!step.work.empty() && (first == nullptr || step.ends < first->ends)) first = &step;
    }
    if (first == nullptr) return false;
    end(*first);
    return true;
  }
  void run_until(double time) {
    while (now < time && round()) {
    }
  }
  // The same, where some come by themselves: `arrive` is called with the time and submits who is due.
  void run_until(double time, const std::function<void(double)>& arrive) {
    while (now < time) {
      arrive(now);
      if (!round()) now += 1e-3;
    }
  }

  server::Scheduler scheduler;
  double now = 0;
  std::int64_t begin_at_most = std::numeric_limits<std::int32_t>::max();
  std::map<Id, Job> jobs;
  std::map<std::string, std::int64_t> served;  // tokens
  std::vector<server::Scheduler::Work> last_step;
  std::function<void(Job)> on_end;

 private:
  struct Step {
    server::LaneRole role = server::LaneRole::mixed;
    std::vector<server::Scheduler::Work> work = {};  // none: the lane is free
    double seconds = 0;
    double ends = 0;
  };

  void select() {
    const auto selection = scheduler.select(now, begin_at_most);
    for (const Id id : selection.park) ++jobs.at(id).parkings;
    for (const Id id : selection.run) {
      if (jobs.at(id).began >= 0) continue;
      jobs.at(id).began = now;
      scheduler.prompt_left(id, jobs.at(id).prompt, jobs.at(id).prompt);
    }
  }

  double seconds_of(const Step& step) {
    if (step.work.empty()) return 0;
    const server::CostModel::Line& truth = truth_[index_of(step.role)];
    double seconds = truth.base;
    for (const auto& part : step.work) {
      seconds += part.prompt_tokens == 0 ? truth.row : truth.token * static_cast<double>(part.prompt_tokens);
    }
    return seconds * (1 + noise_ * (2 * random_.uniform() - 1));
  }

  void end(Step& step) {
    now = step.ends;
    const auto work = std::exchange(step.work, {});
    last_step = work;
    scheduler.stepped(work, step.seconds, now, step.role);
    for (const auto& part : work) {
      Job& job = jobs.at(part.id);
      job.read += part.prompt_tokens;
      served[job.key] += part.prompt_tokens == 0 ? 1 : part.prompt_tokens;
      if (job.read < job.prompt) continue;
      job.said.push_back(now);
      if (std::ssize(job.said) < job.tokens) continue;
      job.ended = now;
      scheduler.finish(part.id);
      if (on_end) on_end(job);
    }
    scheduler.release(work);
  }

  std::array<server::CostModel::Line, server::kLaneRoles> truth_;  // by LaneRole
  std::array<Step, 2> steps_;
  double noise_;
  Random random_;
  Id last_ = 0;
};

}  // namespace krait::tests
