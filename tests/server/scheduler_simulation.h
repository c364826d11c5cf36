// A scheduler on an engine that costs what a line says, and a clock that runs as fast as it is computed.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
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

  // Steps cost `truth`, give or take `noise` of it.
  SchedulerSimulation(const server::SchedulerOptions& options, const server::CostModel::Line& truth, double noise = 0.1)
      : scheduler(options), truth_(truth), noise_(noise), random_(1) {}

  Id submit(Job job) {
    const Id id = ++last_;
    job.arrived = now;
    scheduler.add(id, {.key = job.key, .priority = job.priority, .prompt_tokens = job.prompt, .max_tokens = job.tokens},
                  now);
    jobs[id] = std::move(job);
    return id;
  }

  // One round of what the loop does. False: nothing was to be done.
  bool round() {
    const auto selection = scheduler.select(now, begin_at_most);
    for (const Id id : selection.park) ++jobs.at(id).parkings;
    for (const Id id : selection.run) {
      if (jobs.at(id).began >= 0) continue;
      jobs.at(id).began = now;
      scheduler.prompt_left(id, jobs.at(id).prompt, jobs.at(id).prompt);
    }
    const auto work = scheduler.step(now);
    if (work.empty()) return false;
    double seconds = truth_.base;
    for (const auto& part : work) {
      seconds += part.prompt_tokens == 0 ? truth_.row : truth_.token * static_cast<double>(part.prompt_tokens);
    }
    seconds *= 1 + noise_ * (2 * random_.uniform() - 1);
    now += seconds;
    last_step = work;
    scheduler.stepped(work, seconds, now);
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
    return true;
  }
  void run_until(double time) {
    while (now < time && round()) {
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
  server::CostModel::Line truth_;
  double noise_;
  Random random_;
  Id last_ = 0;
};

}  // namespace krait::tests
