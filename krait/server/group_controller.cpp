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
  apart_ = trial_ = false;
  mode(true) = {};
}

void GroupController::stepped(LaneRole role, const StepShape& shape, std::int64_t prompts_read, double now) {
  Mode& of = mode(role != LaneRole::mixed);
  if (shape.prompt_tokens > 0) ++of.reads;
  if (shape.decodes > 0) ++of.writes;
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
  if (!(pieces > 0)) {  // prompts are let into no step
    result.first_token_seconds = result.sequences = std::numeric_limits<double>::infinity();
    return result;
  }
  if (!(step > 0)) return result;
  const double rate = pieces / step;
  const double share = std::min(prompt_tokens / rate, 1.0);  // of the steps, or of the lane's time
  if (!apart) result.token_seconds += reading.token * pieces * share;
  const double length = prompts > 0 ? prompt_tokens / prompts : 0;
  result.first_token_seconds = std::max(length / (1 - std::min(share, kFullest)), load_.backlog) / rate;
  result.sequences = prompts * result.first_token_seconds + tokens_.per_second(now) * result.token_seconds;
  return result;
}

void GroupController::turn(bool apart, double now) {
  mode(apart_).left_at = now;
  apart_ = apart;
  since_ = now;
}

void GroupController::sample(const Load& load, double now) {
  const double weight = -std::expm1(-(now - sampled_at_) / options_.memory_seconds);
  load_.decodes += weight * (load.decodes - load_.decodes);
  load_.backlog += weight * (load.backlog - load_.backlog);
  sampled_at_ = now;
}

bool GroupController::choose(const Lines& lines, double now) {
  if (now < next_look_) return apart_;
  next_look_ = now + options_.consider_seconds;
  const double here = predict(apart_, lines, now).sequences, there = predict(!apart_, lines, now).sequences;
  const double stayed = now - since_;
  if (trial_) {
    const bool known = is_known(mode(apart_));
    if (stayed < (known ? options_.trial_seconds : options_.most_trial_seconds)) return apart_;
    trial_ = false;
    if (!known || here >= (1 - options_.margin) * there) turn(!apart_, now);
    return apart_;
  }
  if (stayed < options_.dwell_seconds) return apart_;
  const Mode& other = mode(!apart_);
  // One of each in the last while, or there is nothing to part.
  const bool both = prompts_.per_second(now) * options_.memory_seconds >= 0.5 && load_.decodes >= 0.5;
  trial_ = both && now - other.left_at > options_.remeasure_seconds;
  if (trial_ || (is_known(other) && there < (1 - options_.margin) * here)) turn(!apart_, now);
  return apart_;
}

}  // namespace krait::server
