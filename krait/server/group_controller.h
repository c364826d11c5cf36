// Decides whether prompts and decodes share their steps or have cores of their own (core_groups.h), from what steps
// cost (cost_model.h, a line for each lane) and from what flows through. Pure, as the scheduler that it belongs to.
//
// With D sequences that decode, y tokens and x prompts of together l tokens a second, by the fitted lines:
//
//   together  t = base + row D. A step with pieces takes t + token n, where n = (stall_factor - 1) t / token, at most
//             a chunk. Prompts are read at R = n / (t + token n); seconds a token = t + token n min(l / R, 1)
//   apart     by the lines of the two lanes: R = chunk / (base + token chunk); seconds a token = base + row D
//   both      seconds to the first token = max(l / x / (1 - l / R), backlog) / R: the queueing form that semi-PD fits,
//             and what stands there already where the queue grows
//
// What is weighed is x (seconds to the first token) + y (seconds a token): by Little's law the sequences that would be
// in the server for the same flow, so the mean time a request takes, with no weights to choose. The other mode is taken
// when it has fewer by `margin`, and not before `dwell_seconds` in this one. A line is known only while its lanes run:
// where both kinds of work flow and the other mode was not in use for `remeasure_seconds`, it is tried for
// `trial_seconds` (longer until there were `trial_steps` of each kind, but not for ever), and kept if it is better by
// the margin.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

#include "krait/server/core_groups.h"
#include "krait/server/cost_model.h"

namespace krait::server {

// Of a quantity that flows, by forgetting what is long past.
class FlowRate {
 public:
  explicit FlowRate(double memory_seconds) : memory_seconds_(memory_seconds) {}
  void add(double amount, double now);
  double per_second(double now) const;

 private:
  double memory_seconds_;
  double amount_ = 0;  // what is remembered at `at_`
  double at_ = 0;
  double began_ = std::numeric_limits<double>::quiet_NaN();
};

class GroupController {
 public:
  struct Options {
    double stall_factor = 2;
    std::int64_t chunk = 512;  // most tokens of prompts in a step
    double memory_seconds = 10;
    double consider_seconds = 0.5;
    double dwell_seconds = 2;
    double margin = 0.1;
    double remeasure_seconds = 60;
    double trial_seconds = 2;
    double most_trial_seconds = 10;
    std::int64_t trial_steps = 8;
  };
  explicit GroupController(const Options& options);

  using Lines = std::array<CostModel::Line, kLaneRoles>;
  struct Load {
    double decodes = 0;  // sequences that decode
    double backlog = 0;  // tokens of prompts that are not read, of sequences that take part
  };
  struct Prediction {
    double token_seconds = 0;
    double first_token_seconds = 0;
    double sequences = 0;  // in the server, for the same flow
  };

  // A step of any lane, and how many prompts it finished.
  void stepped(LaneRole role, const StepShape& shape, std::int64_t prompts_read, double now);
  Prediction predict(bool apart, const Lines& lines, double now) const;
  // What there is now; to be told all the time, whoever chooses.
  void sample(const Load& load, double now);
  // Whether they are to be apart from now on.
  bool choose(const Lines& lines, double now);
  bool apart() const { return apart_; }
  // Forgets what is known of lanes that are no more, and is together.
  void reset();

 private:
  void turn(bool apart, double now);

  static constexpr double kNever = -std::numeric_limits<double>::infinity();
  struct Mode {
    double left_at = kNever;
    std::int64_t reads = 0, writes = 0;  // steps with prompts, and with decodes
  };
  Mode& mode(bool apart) { return modes_[apart ? 1 : 0]; }
  bool is_known(const Mode& mode) const { return std::min(mode.reads, mode.writes) >= options_.trial_steps; }

  Options options_;
  FlowRate prompts_, prompt_tokens_, tokens_;
  Load load_;  // the mean of the last while
  bool apart_ = false;
  std::array<Mode, 2> modes_;  // together, apart
  double sampled_at_ = 0;
  double next_look_ = 0;
  double since_ = 0;  // in this mode
  bool trial_ = false;
};

}  // namespace krait::server
