// Decides what the engine does next: which sequences take part, how much of which prompt is read beside the ones that
// decode, who is parked for whom, and how long a newcomer would wait. Pure: it has no thread, no clock and no engine,
// it is told what happened and when. The loop (generation_loop.h) and the simulations of the tests run the same code.
//
//   select(now)  who takes part from now on: park these, run those
//   step(now)    what the next step holds: a token of each that decodes, and pieces of prompts
//   stepped(…)   what it cost
//   release(…)   its sequences may take part in another step
//
// Steps of lanes with different roles (core_groups.h) may go on at the same time: what is in one is in no other until
// it is released. It may be parked meanwhile, and is then once it is released.
//
// Priorities come first, the longer one has been kept waiting the higher its own; among equals the key that had least
// of the engine (fair_shares.h); within a key, first come, first served. Parking is free: the state of a sequence stays
// where it is.
//
// Pieces of prompts are as large as fits beside the decodes without making their step longer than `stall_factor` times
// what it takes alone, by a line fitted as it runs (cost_model.h), one for each lane; a lane of their own takes as many
// as the engine does. They are cut at multiples of `grid` tokens from where the sequence alone would have begun a chunk
// (prompt_cut), so that cutting changes no bit of the result.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "krait/server/core_groups.h"
#include "krait/server/cost_model.h"
#include "krait/server/fair_shares.h"
#include "krait/server/group_controller.h"

namespace krait::server {

struct SchedulerOptions {
  std::int64_t slots = 32;              // sequences that take part at once
  std::int64_t most_begun = 128;        // with those parked: each holds a state
  std::int64_t most_step_tokens = 512;  // of prompts in a step
  std::int64_t most_step_rows = 64;     // of logits in a step: sequences that want a next token
  std::int64_t grid = 64;
  double stall_factor = 2;        // a step with pieces of prompts takes at most so many times one without
  double quantum_seconds = 0.25;  // of the engine: who is ahead by less is not parked
  double aging_seconds = 30;      // kept waiting so long counts as one more priority
  std::int64_t most_waiting = 512;
  double most_wait_seconds = 120;
  bool fair = true;     // off: first come, first served
  bool chunked = true;  // off: a prompt is read in one piece
};

// How much of `left` tokens to read when `most` are allowed, so that the rest begins at a multiple of `grid`, and is no
// single token: models read single tokens by another path than several, with other roundings. 0: nothing fits.
std::int64_t prompt_cut(std::int64_t left, std::int64_t most, std::int64_t grid);
// The least that can be read.
std::int64_t least_prompt_cut(std::int64_t left, std::int64_t grid);

class Scheduler {
 public:
  using Id = std::uint64_t;  // rises with arrival

  explicit Scheduler(const SchedulerOptions& options, const CostModel& cost = CostModel());

  struct Arrival {
    std::string key;
    int priority = 0;
    std::int64_t prompt_tokens = 0;
    std::int64_t max_tokens = 0;
  };
  // What a newcomer of this kind would wait until it takes part, in seconds.
  double predicted_wait(const Arrival& arrival) const;
  // Whether it may wait.
  bool admits(const Arrival& arrival) const;

  void add(Id id, Arrival arrival, double now);
  void remove(Id id);  // finished, failed or cancelled
  // A finished sequence: remembers how long its reply was.
  void finish(Id id);

  // Who computes where from now on, of so many cores in all. Automatic choices are looked at by select().
  void set_core_groups(const CoreGroups& groups, int cores);
  const CoreGroups& core_groups() const { return groups_; }
  bool apart() const { return apart_; }  // now
  std::uint64_t group_switches() const { return group_switches_; }
  // The cores of a lane, where it is in use.
  int cores_of(LaneRole role) const;

  struct Selection {
    std::vector<Id> park;
    std::vector<Id> run;  // waiting ones to begin, and parked ones
  };
  // `begin_at_most`: so many waiting ones may begin (memory for states). `slots_at_most`: so many may take part, where
  // that is less than the slots.
  Selection select(double now, std::int64_t begin_at_most,
                   std::int64_t slots_at_most = std::numeric_limits<std::int64_t>::max());
  // One that was to begin did not, for want of memory; it goes on waiting.
  void put_back(Id id, double now);
  // Sets a running one aside, whoever comes next: it has no memory to go on. It is not run before `until`.
  void park(Id id, double now, double until);
  // It has lost its state and begins anew.
  void restart(Id id, double now);

  // What is left of the prompt of one that runs: in all, and up to where the sequence alone would have been cut.
  void prompt_left(Id id, std::int64_t tokens, std::int64_t until_cut);

  struct Work {
    Id id = 0;
    std::int64_t prompt_tokens = 0;  // 0: it decodes a token
  };
  // Of those that are in no step: for a mixed one all, or what is the lane's.
  std::vector<Work> step(double now, LaneRole role = LaneRole::mixed);
  // `seconds` that it took. Charges the keys for the cores that they had; the lane's cost model learns.
  void stepped(std::span<const Work> work, double seconds, double now, LaneRole role = LaneRole::mixed);
  // What became of it is told. Those that are gone do not matter.
  void release(std::span<const Work> work);

  std::int64_t waiting() const { return count(Phase::waiting); }
  std::int64_t running() const { return count(Phase::running); }
  std::int64_t parked() const { return count(Phase::parked); }
  std::int64_t prefilling() const;  // of those running
  bool is_parked(Id id) const { return sequences_.at(id).phase == Phase::parked; }
  bool empty() const { return sequences_.empty(); }
  bool is_in_step(Id id) const { return sequences_.at(id).in_step; }
  const CostModel& cost(LaneRole role = LaneRole::mixed) const { return cost_[index_of(role)]; }
  // By the lines as they are and the flow as it is.
  GroupController::Prediction predicted(bool apart, double now) const;
  const SchedulerOptions& options() const { return options_; }

 private:
  enum class Phase : std::uint8_t { waiting, running, parked };
  struct Sequence {
    std::string key;
    int priority = 0;
    Phase phase = Phase::waiting;
    std::int64_t prompt_left = 0;
    std::int64_t until_cut = 0;
    std::int64_t max_tokens = 0;
    std::int64_t generated = 0;
    double since = 0;       // in this phase
    double not_before = 0;  // of parked ones
    int level = 0;          // the priority it was given its slot at
    std::uint64_t last_turn = 0;
    bool in_step = false;
  };
  std::int64_t count(Phase phase) const;
  Sequence& at(Id id);
  int level(const Sequence& sequence, double now) const;
  double expected_left(const Sequence& sequence) const;
  void set_phase(Sequence& sequence, Phase phase, double now);
  double counter(const std::string& key) const { return options_.fair ? shares_.counter(key) : 0; }
  void add_pieces(std::vector<Work>& work, std::int64_t decodes, double now);
  void look_at_groups(double now);
  void set_apart(bool apart);
  GroupController::Lines lines() const;

  SchedulerOptions options_;
  const CostModel prior_;
  std::array<CostModel, kLaneRoles> cost_;  // by LaneRole
  GroupController controller_;
  CoreGroups groups_;
  int cores_ = 1;
  bool apart_ = false;
  std::uint64_t group_switches_ = 0;
  FairShares shares_;
  std::map<Id, Sequence> sequences_;
  std::uint64_t turns_ = 0;
  double credit_ = 0;  // seconds that prompts have been kept from
  std::uint64_t finished_ = 0;
  double mean_reply_ = 256;  // tokens; the first guess counts as one reply
};

}  // namespace krait::server
