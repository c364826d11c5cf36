#include "krait/server/group_controller.h"

#include <algorithm>
#include <cmath>

namespace krait::server {
namespace {

// A queue that is never empty has no mean length; beyond this the backlog tells.
constexpr double kFullest = 0.95;
constexpr double kShortest = 1e-3;  // seconds since a flow began, for a rate that is a number

}  // namespace

void FlowRate::add(double amount, double now) {
  if (std::isnan(began_)) began_ = at_ = now;
  amount_ = amount_ * std::exp(-(now - at_) / memory_seconds_) + amount;
  at_ = now;
}

double FlowRate::per_second(double now) const {
  if (std::isnan(began_)) return 0;
  // Less has been seen than is remembered while it has not gone on for so long.
  const double seen = memory_seconds_ * -std::expm1(-std::max(now - began_, kShortest) / memory_seconds_);
  return amount_ * std::exp(-(now - at_) / memory_seconds_) / seen;
}

GroupController::GroupController(const Options& options)
    : options_(options),
      prompts_(options.memory_seconds),
      prompt_tokens_(options.memory_seconds),
      tokens_(options.memory_seconds) {}

void GroupController::reset() {
  apart_ = false;
  trial_ends_ = 0;
  seen_at_[1] = -std::numeric_limits<double>::infinity();
}

void GroupController::stepped(const StepShape& shape, std::int64_t prompts_read, double now) {
  prompts_.add(static_cast<double>(prompts_read), now);
  prompt_tokens_.add(static_cast<double>(shape.prompt_tokens), now);
  tokens_.add(static_cast<double>(shape.decodes), now);
}

GroupController::Prediction GroupController::predict(bool apart, const Lines& lines, double now) const {
  const double prompts = prompts_.per_second(now), prompt_tokens = prompt_tokens_.per_second(now);
  const auto chunk = static_cast<double>(options_.chunk);
  const CostModel::Line& reading = lines[index_of(apart ? LaneRole::prompts : LaneRole::mixed)];
  const CostModel::Line& writing = lines[index_of(apart ? LaneRole::decodes : LaneRole::mixed)];
  Prediction result;
  result.token_seconds = writing.base + writing.row * load_.decodes;
  double pieces = chunk;  // tokens of a step that reads
  double step = reading.base;
  if (!apart) {
    step = result.token_seconds;
    const double allowed = (options_.stall_factor - 1) * step;
    if (load_.decodes >= 0.5 && reading.token > 0) pieces = std::min(chunk, allowed / reading.token);
  }
  step += reading.token * pieces;
  if (!(step > 0) || !(pieces > 0)) return result;  // nothing is known
  const double rate = pieces / step;
  const double share = std::min(prompt_tokens / rate, 1.0);  // of the steps, or of the lane's time
  if (!apart) result.token_seconds += reading.token * pieces * share;
  const double length = prompts > 0 ? prompt_tokens / prompts : 0;
  result.first_token_seconds = std::max(length / (1 - std::min(share, kFullest)), load_.backlog) / rate;
  result.sequences = prompts * result.first_token_seconds + tokens_.per_second(now) * result.token_seconds;
  return result;
}

void GroupController::turn(bool apart, double now) {
  seen_at_[apart_ ? 1 : 0] = now;
  apart_ = apart;
  since_ = now;
}

bool GroupController::choose(const Load& load, const Lines& lines, double now) {
  const double weight = -std::expm1(-(now - sampled_at_) / options_.memory_seconds);
  load_.decodes += weight * (load.decodes - load_.decodes);
  load_.backlog += weight * (load.backlog - load_.backlog);
  sampled_at_ = now;
  if (now < next_look_ || now < trial_ends_) return apart_;
  next_look_ = now + options_.consider_seconds;
  const double here = predict(apart_, lines, now).sequences, there = predict(!apart_, lines, now).sequences;
  if (trial_ends_ > 0) {
    trial_ends_ = 0;
    if (here >= (1 - options_.margin) * there) turn(!apart_, now);
    return apart_;
  }
  if (now - since_ < options_.dwell_seconds) return apart_;
  // One of each in the last while, or there is nothing to part.
  const bool both = prompts_.per_second(now) * options_.memory_seconds >= 0.5 && load_.decodes >= 0.5;
  const double seen = seen_at_[apart_ ? 0 : 1];
  if (both && now - seen > options_.remeasure_seconds) {
    turn(!apart_, now);
    trial_ends_ = now + options_.trial_seconds;
  } else if (std::isfinite(seen) && there < (1 - options_.margin) * here) {
    turn(!apart_, now);
  }
  return apart_;
}

}  // namespace krait::server
