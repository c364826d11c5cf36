#include "krait/cli/bench_measure.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "krait/cli/command.h"
#include "krait/cli/terminal.h"
#include "krait/core/random.h"
#include "krait/runtime/session.h"

namespace krait::cli {
namespace {

using Clock = std::chrono::steady_clock;
using formats::TokenId;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void stop_if_interrupted() {
  if (InterruptGuard::interrupted()) throw CommandError("interrupted");
}

class Load {
 public:
  Load(runtime::Engine& engine, const BenchLoad& load) : engine_(engine), load_(load), random_(1) {
    const std::int64_t longest = std::max({load.prompt, load.decode, load.position, load.mixed, std::int64_t{4096}});
    ids_.resize(static_cast<std::size_t>(longest + load.batch));
    const auto vocabulary = static_cast<std::uint64_t>(engine.model().info().vocabulary);
    for (TokenId& id : ids_) id = static_cast<TokenId>(random_.next() % vocabulary);
  }

  // Sequences that stand at the load's position, each a few tokens past the one before it.
  void prepare() {
    if (load_.decode == 0) return;
    const std::int64_t position = load_.position >= 0 ? load_.position : load_.prompt;
    runtime::Session trunk(engine_);
    Progress progress("reading up to the position", position, "tokens");
    for (std::int64_t done = 0; done < position; done += 4096) {
      stop_if_interrupted();
      trunk.feed(ids(done, std::min<std::int64_t>(4096, position - done)));
      progress.update(done);
    }
    for (std::int64_t i = 0; i < load_.batch; ++i) {
      if (i > 0) trunk.feed(ids(i, 1));
      starts_.push_back(trunk.fork());
    }
  }

  double prefill_seconds() {
    runtime::Session session(engine_);
    const Clock::time_point start = Clock::now();
    session.feed(ids(0, load_.prompt));
    return seconds_since(start);
  }

  double decode_seconds() {
    std::vector<runtime::Session> sessions;
    sessions.reserve(starts_.size());
    for (const runtime::Session& start : starts_) sessions.push_back(start.fork());
    std::vector<runtime::StepRequest> requests(sessions.size());
    std::optional<runtime::Session> reader;
    if (load_.mixed > 0) reader.emplace(engine_);
    double seconds = 0.0;
    for (std::int64_t step = 0; step < load_.decode; ++step) {
      for (std::size_t i = 0; i < sessions.size(); ++i) {
        requests[i] = {&sessions[i], ids(step + static_cast<std::int64_t>(i), 1), 0};
      }
      if (reader) {
        requests.resize(sessions.size());
        requests.push_back({&*reader, ids(0, load_.mixed), load_.mixed});
      }
      const Clock::time_point start = Clock::now();
      engine_.step(requests);
      seconds += seconds_since(start);
    }
    return seconds;
  }

 private:
  std::span<const TokenId> ids(std::int64_t first, std::int64_t count) const {
    const std::int64_t all = static_cast<std::int64_t>(ids_.size());
    return std::span(ids_).subspan(static_cast<std::size_t>(std::min(first % all, all - count)),
                                   static_cast<std::size_t>(count));
  }

  runtime::Engine& engine_;
  BenchLoad load_;
  Random random_;
  std::vector<TokenId> ids_;
  std::vector<runtime::Session> starts_;
};

}  // namespace

double Samples::median() const {
  std::vector<double> sorted = per_second;
  std::ranges::sort(sorted);
  const std::size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

double Samples::best() const { return *std::ranges::max_element(per_second); }

double Samples::spread() const { return (best() - *std::ranges::min_element(per_second)) / median(); }

BenchResult measure(runtime::Engine& engine, const BenchLoad& load) {
  BenchResult result;
  const InterruptGuard guard;
  Load work(engine, load);
  work.prepare();
  models::OperatorProfile profile;
  Progress progress("measuring", load.repeats + 2, "rounds");
  // Round 0 warms caches and pages, the last one writes down operators: neither is counted.
  for (int round = 0; round <= load.repeats + 1; ++round) {
    stop_if_interrupted();
    const bool counted = round > 0 && round <= load.repeats;
    if (round > load.repeats) engine.set_profile(&profile);
    if (load.prompt > 0) {
      const double seconds = work.prefill_seconds();
      if (counted) result.prefill.per_second.push_back(static_cast<double>(load.prompt) / seconds);
      result.prefill_operators = profile.costs();
      profile.clear();
    }
    if (load.decode > 0) {
      const double seconds = work.decode_seconds();
      if (counted) result.decode.per_second.push_back(static_cast<double>(load.decode * load.batch) / seconds);
      result.decode_operators = profile.costs();
    }
    progress.update(round + 1);
  }
  engine.set_profile(nullptr);
  return result;
}

}  // namespace krait::cli
