#include "krait/server/scheduler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>
#include <ranges>
#include <tuple>

#include "krait/core/check.h"

namespace krait::server {

std::int64_t least_prompt_cut(std::int64_t left, std::int64_t grid) { return left <= grid + 1 ? left : grid; }

std::int64_t prompt_cut(std::int64_t left, std::int64_t most, std::int64_t grid) {
  if (most >= left) return left;
  std::int64_t cut = most / grid * grid;
  if (left - cut == 1) cut -= grid;
  return std::max<std::int64_t>(cut, 0);
}

Scheduler::Scheduler(const SchedulerOptions& options, const CostModel& cost)
    : options_(options),
      prior_(cost),
      cost_{cost, cost, cost},
      controller_({.stall_factor = options.stall_factor, .chunk = options.most_step_tokens}) {
  KRAIT_CHECK(options.slots > 0 && options.most_begun >= options.slots, "{} slots, {} begun", options.slots,
              options.most_begun);
  KRAIT_CHECK(options.grid > 0 && options.most_step_tokens > options.grid && options.most_step_rows > 1,
              "grid {}, {} tokens and {} rows to a step", options.grid, options.most_step_tokens,
              options.most_step_rows);
}

Scheduler::Sequence& Scheduler::at(Id id) {
  const auto found = sequences_.find(id);
  KRAIT_CHECK(found != sequences_.end(), "no sequence {}", id);
  return found->second;
}

std::int64_t Scheduler::count(Phase phase) const {
  return std::ranges::count_if(sequences_, [&](const auto& entry) { return entry.second.phase == phase; });
}

std::int64_t Scheduler::prefilling() const {
  return std::ranges::count_if(sequences_, [&](const auto& entry) {
    return entry.second.phase == Phase::running && entry.second.prompt_left > 0;
  });
}

void Scheduler::set_phase(Sequence& sequence, Phase phase, double now) {
  sequence.phase = phase;
  sequence.since = now;
}

void Scheduler::add(Id id, Arrival arrival, double now) {
  shares_.enter(arrival.key);
  const bool is_new = sequences_
                          .emplace(id, Sequence{.key = std::move(arrival.key),
                                                .priority = arrival.priority,
                                                .prompt_left = arrival.prompt_tokens,
                                                .until_cut = arrival.prompt_tokens,
                                                .max_tokens = arrival.max_tokens,
                                                .since = now})
                          .second;
  KRAIT_CHECK(is_new, "sequence {} twice", id);
}

void Scheduler::remove(Id id) {
  const auto found = sequences_.find(id);
  KRAIT_CHECK(found != sequences_.end(), "no sequence {}", id);
  shares_.leave(found->second.key);
  sequences_.erase(found);
}

void Scheduler::finish(Id id) {
  ++finished_;
  const double weight = std::max(1.0 / 16, 1.0 / static_cast<double>(finished_ + 1));  // of the last 16 or so
  mean_reply_ += weight * (static_cast<double>(at(id).generated) - mean_reply_);
  remove(id);
}

void Scheduler::put_back(Id id, double now) { set_phase(at(id), Phase::waiting, now); }

void Scheduler::park(Id id, double now, double until) {
  Sequence& sequence = at(id);
  set_phase(sequence, Phase::parked, now);
  sequence.not_before = until;
}

void Scheduler::restart(Id id, double now) { set_phase(at(id), Phase::waiting, now); }

void Scheduler::prompt_left(Id id, std::int64_t tokens, std::int64_t until_cut) {
  KRAIT_CHECK(until_cut >= 0 && until_cut <= tokens && (until_cut > 0) == (tokens > 0), "{} of {} tokens", until_cut,
              tokens);
  Sequence& sequence = at(id);
  sequence.prompt_left = tokens;
  sequence.until_cut = until_cut;
}

// Those that wait rise. One that got its slot that way keeps its level for a quantum, or it would fall back at once.
int Scheduler::level(const Sequence& sequence, double now) const {
  if (sequence.phase == Phase::running) {
    return now - sequence.since < options_.quantum_seconds ? std::max(sequence.level, sequence.priority)
                                                           : sequence.priority;
  }
  return sequence.priority + static_cast<int>(std::min((now - sequence.since) / options_.aging_seconds, 1e6));
}

int Scheduler::cores_of(LaneRole role) const {
  switch (role) {
    case LaneRole::mixed: return cores_;
    case LaneRole::prompts: return groups_.prompt_cores;
    case LaneRole::decodes: return groups_.decode_cores;
  }
  return 0;
}

void Scheduler::set_core_groups(const CoreGroups& groups, int cores) {
  KRAIT_CHECK(check_core_groups(groups, cores).has_value(), "{} of {} cores", to_string(groups), cores);
  const bool same_lanes = groups.prompt_cores == groups_.prompt_cores && groups.decode_cores == groups_.decode_cores;
  groups_ = groups;
  cores_ = cores;
  if (!same_lanes) {
    for (const LaneRole role : {LaneRole::prompts, LaneRole::decodes}) cost_[index_of(role)] = prior_;
    controller_.reset();
  }
  using enum CoreGroups::Choice;
  set_apart(groups.choice == apart || (groups.choice == automatic && controller_.apart()));
}

void Scheduler::set_apart(bool apart) {
  if (apart != apart_) ++group_switches_;
  apart_ = apart;
}

GroupController::Lines Scheduler::lines() const {
  GroupController::Lines lines;
  for (std::size_t i = 0; i < kLaneRoles; ++i) lines[i] = cost_[i].line();
  return lines;
}

GroupController::Prediction Scheduler::predicted(bool apart, double now) const {
  return controller_.predict(apart, lines(), now);
}

void Scheduler::look_at_groups(double now) {
  GroupController::Load load;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence.phase != Phase::running) continue;
    load.backlog += static_cast<double>(sequence.prompt_left);
    if (sequence.prompt_left == 0) ++load.decodes;
  }
  controller_.sample(load, now);
  if (groups_.choice == CoreGroups::Choice::automatic) set_apart(controller_.choose(lines(), now));
}

Scheduler::Selection Scheduler::select(double now, std::int64_t begin_at_most, std::int64_t slots_at_most) {
  // Level -> key -> its sequences, running ones first (nobody is parked for another of its own key), then parked ones,
  // which are on their way, then those that wait; each in the order they came.
  look_at_groups(now);
  struct Candidate {
    Id id;
    Sequence* sequence;
  };
  std::map<int, std::map<std::string_view, std::vector<Candidate>>, std::greater<>> levels;
  std::int64_t begun = 0;
  for (auto& [id, sequence] : sequences_) {
    if (sequence.phase != Phase::waiting) ++begun;
    if (sequence.phase == Phase::parked && now < sequence.not_before) continue;
    // Its step is to end first.
    if (sequence.phase != Phase::running && sequence.in_step) continue;
    // Without fairness all are of one key.
    const std::string_view key = options_.fair ? std::string_view(sequence.key) : std::string_view();
    levels[level(sequence, now)][key].push_back({id, &sequence});
  }
  begin_at_most = std::min(begin_at_most, options_.most_begun - begun);

  const auto rank = [](const Candidate& candidate) {
    return candidate.sequence->phase == Phase::running ? 0 : candidate.sequence->phase == Phase::parked ? 1 : 2;
  };
  std::map<std::string_view, double> counters;  // as if those chosen had run for a quantum
  Selection selection;
  std::map<Id, bool> keeps;  // running ones that go on
  std::int64_t slots = std::min(options_.slots, slots_at_most);
  for (auto& [of_level, keys] : levels) {
    struct Queue {
      std::string_view key;
      std::vector<Candidate> candidates;
      std::size_t next = 0;
    };
    std::vector<Queue> queues;
    for (auto& [key, candidates] : keys) {
      std::ranges::stable_sort(candidates, {}, rank);
      counters.try_emplace(key, counter(std::string(key)));
      queues.push_back({key, std::move(candidates)});
    }
    while (slots > 0) {
      Queue* best = nullptr;
      double least = std::numeric_limits<double>::infinity();
      for (Queue& queue : queues) {
        if (queue.next == queue.candidates.size()) continue;
        const Candidate& candidate = queue.candidates[queue.next];
        if (candidate.sequence->phase == Phase::waiting && begin_at_most <= 0) continue;
        double score = counters[queue.key];
        if (candidate.sequence->phase == Phase::running) score -= options_.quantum_seconds;
        if (score < least || (score == least && candidate.id < best->candidates[best->next].id)) {
          least = score;
          best = &queue;
        }
      }
      if (best == nullptr) break;
      const auto [id, sequence] = best->candidates[best->next++];
      counters[best->key] += options_.quantum_seconds;
      --slots;
      if (sequence->phase == Phase::running) {
        keeps[id] = true;
        continue;
      }
      if (sequence->phase == Phase::waiting) --begin_at_most;
      sequence->level = of_level;
      selection.run.push_back(id);
    }
  }
  for (auto& [id, sequence] : sequences_) {
    if (sequence.phase != Phase::running || keeps.contains(id)) continue;
    set_phase(sequence, Phase::parked, now);
    sequence.not_before = 0;
    selection.park.push_back(id);
  }
  for (const Id id : selection.run) set_phase(at(id), Phase::running, now);
  return selection;
}

std::vector<Scheduler::Work> Scheduler::step(double now, LaneRole role) {
  std::vector<Work> work;
  if (role != LaneRole::prompts) {
    std::vector<std::pair<std::uint64_t, Id>> decoding;  // by when they last took part
    for (const auto& [id, sequence] : sequences_) {
      if (sequence.phase != Phase::running || sequence.in_step || sequence.prompt_left > 0) continue;
      decoding.emplace_back(sequence.last_turn, id);
    }
    std::ranges::sort(decoding);
    // A prompt that ends wants a row as well; one is left for it, or decodes that fill all rows would keep it out for
    // ever.
    const bool leaves_row = role == LaneRole::mixed && prefilling() > 0;
    const std::int64_t most_decodes = options_.most_step_rows - (leaves_row ? 1 : 0);
    for (const auto& [last, id] : decoding) {
      if (std::ssize(work) == most_decodes) break;
      work.push_back({.id = id, .prompt_tokens = 0});
    }
  }
  if (role != LaneRole::decodes) add_pieces(work, std::ssize(work), now);
  for (const Work& part : work) at(part.id).in_step = true;
  return work;
}

void Scheduler::release(std::span<const Work> work) {
  for (const Work& part : work) {
    if (const auto found = sequences_.find(part.id); found != sequences_.end()) found->second.in_step = false;
  }
}

void Scheduler::add_pieces(std::vector<Work>& work, std::int64_t decodes, double now) {
  struct Candidate {
    int level;
    double counter;
    Id id;
    const Sequence* sequence;
  };
  std::vector<Candidate> candidates;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence.phase != Phase::running || sequence.in_step || sequence.prompt_left == 0) continue;
    candidates.push_back({level(sequence, now), counter(sequence.key), id, &sequence});
  }
  if (candidates.empty()) {
    credit_ = 0;
    return;
  }
  std::ranges::sort(candidates, [](const Candidate& a, const Candidate& b) {
    return std::tuple(-a.level, a.counter, a.id) < std::tuple(-b.level, b.counter, b.id);
  });
  if (!options_.chunked) {
    // A prompt in one piece, as long as it is.
    work.push_back({.id = candidates.front().id, .prompt_tokens = candidates.front().sequence->until_cut});
    return;
  }

  // Where even the least piece is too long for a step, it takes its turn once the steps without have saved up for it:
  // decodes are then slowed down by the factor in the mean, and a stall is one such piece.
  std::int64_t most = options_.most_step_tokens;
  const double allowed = (options_.stall_factor - 1) * cost().seconds({.decodes = decodes, .prompt_tokens = 0});
  const double token = cost().line().token;
  if (decodes > 0 && token > 0) {
    most = static_cast<std::int64_t>(std::min(allowed / token, static_cast<double>(most)));
  }
  bool any = false;
  std::int64_t rows = options_.most_step_rows - decodes;
  for (const Candidate& candidate : candidates) {
    const Sequence& sequence = *candidate.sequence;
    std::int64_t tokens = prompt_cut(sequence.until_cut, most, options_.grid);
    if (tokens == 0 && !any) {
      const std::int64_t least = least_prompt_cut(sequence.until_cut, options_.grid);
      credit_ += allowed;
      const double cost = token * static_cast<double>(least);
      if (decodes > 0 && credit_ < cost) return;
      credit_ = std::clamp(credit_ - cost, 0.0, cost);
      tokens = least;
      most = least;  // and nothing else
    }
    if (tokens == 0) continue;  // a shorter prompt may fit
    const bool ends = tokens == sequence.prompt_left;
    if (ends && rows == 0) continue;
    if (ends) --rows;
    any = true;
    work.push_back({.id = candidate.id, .prompt_tokens = tokens});
    most -= tokens;
    if (most <= 0) break;
  }
}

void Scheduler::stepped(std::span<const Work> work, double seconds, double now, LaneRole role) {
  StepShape shape;
  for (const Work& part : work) {
    shape.prompt_tokens += part.prompt_tokens;
    if (part.prompt_tokens == 0) ++shape.decodes;
  }
  // Each pays for its part of what the step took: its own, by the line, and the base in equal shares.
  const CostModel::Line line = cost(role).line();
  const double base = line.base / static_cast<double>(std::max<std::size_t>(work.size(), 1));
  const auto weight = [&](const Work& part) {
    return base + (part.prompt_tokens == 0 ? line.row : line.token * static_cast<double>(part.prompt_tokens));
  };
  double total = 0;
  for (const Work& part : work) total += weight(part);
  const double charged = seconds * static_cast<double>(cores_of(role)) / static_cast<double>(cores_);
  std::int64_t prompts_read = 0;
  for (const Work& part : work) {
    Sequence& sequence = at(part.id);
    sequence.last_turn = ++turns_;
    shares_.charge(sequence.key, total > 0 ? charged * weight(part) / total : 0);
    if (part.prompt_tokens == 0) {
      ++sequence.generated;
      continue;
    }
    sequence.prompt_left -= part.prompt_tokens;
    sequence.until_cut -= part.prompt_tokens;
    KRAIT_CHECK(sequence.prompt_left >= 0 && sequence.until_cut >= 0, "read {} tokens too many", -sequence.until_cut);
    if (sequence.until_cut == 0) sequence.until_cut = sequence.prompt_left;  // until the owner says more
    if (sequence.prompt_left == 0) ++prompts_read;
  }
  cost_[index_of(role)].observe(shape, seconds);
  controller_.stepped(role, shape, prompts_read, now);
}

// However long it has been going on, as if replies ended at random: most stay far below what they are allowed.
double Scheduler::expected_left(const Sequence& sequence) const {
  const auto allowed = static_cast<double>(sequence.max_tokens - sequence.generated);
  return std::max(std::min(allowed, mean_reply_), 1.0);
}

// As if slots were machines that take the sequences ahead in their order, each for as many steps as it has tokens left;
// prompts ahead are read one after another and hold all of them up.
double Scheduler::predicted_wait(const Arrival& arrival) const {
  std::priority_queue<double, std::vector<double>, std::greater<>> free_at;  // in steps
  std::map<std::string_view, std::vector<const Sequence*>> queues;
  double prompt_tokens = 0;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence.phase == Phase::waiting) {
      if (sequence.priority >= arrival.priority) queues[sequence.key].push_back(&sequence);
    } else {
      if (sequence.priority < arrival.priority) continue;  // is parked for it
      prompt_tokens += static_cast<double>(sequence.prompt_left);
      free_at.push(expected_left(sequence));
    }
  }
  // Keys take turns, so of another's queue no more stands before it than of its own.
  const auto own = queues.find(arrival.key);
  const std::size_t turns =
      options_.fair ? (own == queues.end() ? 0 : own->second.size()) + 1 : std::numeric_limits<std::size_t>::max();
  while (std::ssize(free_at) < options_.slots) free_at.push(0);
  const auto take = [&](const Sequence& sequence) {
    const double start = free_at.top();
    free_at.pop();
    free_at.push(start + expected_left(sequence));
    prompt_tokens += static_cast<double>(sequence.prompt_left);
  };
  for (const auto& [key, queue] : queues) {
    for (const Sequence* sequence :
         queue | std::views::take(static_cast<std::ptrdiff_t>(std::min(turns, queue.size())))) {
      take(*sequence);
    }
  }
  // More may have begun than there are slots: those that are parked have theirs back first.
  while (std::ssize(free_at) > options_.slots) {
    const double first = free_at.top();
    free_at.pop();
    const double second = free_at.top();
    free_at.pop();
    free_at.push(first + second);
  }
  const double steps = free_at.top();
  if (steps == 0) return 0;
  const CostModel& writes = cost(apart_ ? LaneRole::decodes : LaneRole::mixed);
  const double writing = steps * writes.seconds({.decodes = options_.slots, .prompt_tokens = 0});
  const double reading = prompt_tokens * cost(apart_ ? LaneRole::prompts : LaneRole::mixed).line().token;
  return apart_ ? std::max(writing, reading) : writing + reading;
}

bool Scheduler::admits(const Arrival& arrival) const {
  return waiting() < options_.most_waiting && predicted_wait(arrival) <= options_.most_wait_seconds;
}

}  // namespace krait::server
