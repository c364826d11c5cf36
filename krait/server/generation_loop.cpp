#include "krait/server/generation_loop.h"

#include <algorithm>
#include <exception>
#include <ranges>
#include <utility>

#include "krait/core/check.h"
#include "krait/runtime/slab.h"

namespace krait::server {
namespace {

// How long to sleep where there is work and no memory for it: others may let go of states at any time.
constexpr std::chrono::milliseconds kLookAgain{5};
constexpr std::size_t kMostKeys = 1000;

SchedulerOptions scheduler_options(const GenerationLoopOptions& options, const runtime::Engine& engine) {
  SchedulerOptions result = options.scheduler;
  if (options.batch_invariant) result.grid = engine.options().prefill_chunk;
  // Nothing is cut below the grid, and a chunk is the most of one sequence that a step takes.
  result.most_step_tokens =
      std::max(std::min(result.most_step_tokens, engine.options().prefill_chunk), result.grid + 1);
  result.most_step_rows = std::clamp<std::int64_t>(engine.logit_rows_at_once(), 2, result.most_step_rows);
  result.most_begun = std::max(result.most_begun, result.slots);
  return result;
}

std::vector<double> seconds_bounds() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120};
}

std::string_view word_of(runtime::LookupReason reason) {
  using enum runtime::LookupReason;
  switch (reason) {
    case hit: return "hit";
    case partial_hit: return "partial_hit";
    case unseen: return "unseen";
    case no_state: return "no_state";
    case evicted: return "evicted";
    case other_model: return "other_model";
    case disabled: return "disabled";
  }
  return "unknown";
}

Error error_of(const std::exception& wrong, ErrorCode code) { return {code, wrong.what()}; }

}  // namespace

GenerationLoop::GenerationLoop(runtime::Engine& engine, const formats::Tokenizer& tokenizer, runtime::StateStore* store,
                               const GenerationLoopOptions& options)
    : engine_(engine),
      tokenizer_(tokenizer),
      store_(store),
      options_(options),
      scheduler_(scheduler_options(options, engine)) {
  for (Histogram* of : {&statistics_.queue_seconds, &statistics_.first_token_seconds, &statistics_.token_seconds,
                        &statistics_.step_seconds}) {
    *of = Histogram(seconds_bounds());
  }
  statistics_.batch_sequences = Histogram({1, 2, 4, 8, 16, 32, 64, 128});
  thread_ = std::thread([this] { run(); });
}

GenerationLoop::~GenerationLoop() { stop(); }

std::expected<GenerationId, GenerationRefusal> GenerationLoop::submit(GenerationRequest request,
                                                                      std::shared_ptr<GenerationSink> sink) {
  const auto refuse = [](ErrorCode code, std::string why, double seconds = 0) {
    return std::unexpected(GenerationRefusal{{code, std::move(why)}, seconds});
  };
  const Scheduler::Arrival arrival{.key = request.key,
                                   .priority = request.priority,
                                   .prompt_tokens = static_cast<std::int64_t>(request.prompt.size()),
                                   .max_tokens = request.max_tokens};
  GenerationId id = 0;
  {
    const std::lock_guard lock(mutex_);
    id = ++last_id_;
  }
  std::optional<Sequence> sequence;
  try {
    sequence.emplace(id, std::move(request), std::move(sink), engine_, tokenizer_);
  } catch (const UserError& wrong) {
    return refuse(ErrorCode::kInvalidArgument, fmt::format("[request] {}: {}", wrong.what(), wrong.hint()));
  }
  const std::lock_guard lock(mutex_);
  if (draining_ || ending_) return refuse(ErrorCode::kCancelled, "[server] is shutting down");
  if (!scheduler_.admits(arrival)) {
    ++statistics_.refused;
    const double wait = scheduler_.predicted_wait(arrival);
    const double most = scheduler_.options().most_wait_seconds;
    return refuse(
        ErrorCode::kResourceExhausted,
        fmt::format("[server] is busy: {} requests wait, this one would for {:.0f} s", scheduler_.waiting(), wait),
        // Where the number of requests is the limit, one has to begin first.
        std::max({1.0, wait - most, wait / static_cast<double>(scheduler_.waiting() + 1)}));
  }
  ++statistics_.submitted;
  ++usage(arrival.key).requests;
  scheduler_.add(id, arrival, now());
  inbox_.emplace(id, Member{.sequence = *std::move(sequence), .submitted = GenerationClock::now(), .last_token = {}});
  wake_.notify_all();
  return id;
}

void GenerationLoop::cancel(GenerationId id) {
  const std::lock_guard lock(mutex_);
  cancelled_.insert(id);
  wake_.notify_all();
}

GenerationStatistics GenerationLoop::statistics() const {
  runtime::StateStoreStatistics stored;
  if (store_ != nullptr) stored = store_->statistics();
  const std::lock_guard lock(mutex_);
  GenerationStatistics result = statistics_;
  result.waiting = scheduler_.waiting();
  result.prefilling = scheduler_.prefilling();
  result.decoding = scheduler_.running() - result.prefilling;
  result.parked = scheduler_.parked();
  result.predicted_wait_seconds = scheduler_.predicted_wait({});
  result.states_in_use = engine_.states().states_in_use();
  result.states_capacity = engine_.states().capacity();
  result.draining = draining_;
  result.stored_states = stored.states;
  result.stored_memory_bytes = stored.memory_bytes;
  result.stored_disk_bytes = stored.disk_bytes;
  result.stored_waiting = stored.waiting;
  result.stored_written = stored.spilled;
  return result;
}

bool GenerationLoop::drain(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  return idle_.wait_for(lock, limit, [&] { return scheduler_.empty(); });
}

void GenerationLoop::stop() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    wake_.notify_all();
  }
  if (thread_.joinable() && thread_.get_id() != std::this_thread::get_id()) thread_.join();
}

GenerationStatistics::KeyUsage& GenerationLoop::usage(const std::string& key) {
  const auto found = statistics_.keys.find(key);
  if (found != statistics_.keys.end()) return found->second;
  return statistics_.keys[statistics_.keys.size() < kMostKeys ? key : std::string()];
}

void GenerationLoop::run() {
  while (take_orders()) {
    drop_expired();
    select();
    step();
  }
  while (!members_.empty()) fail(members_.begin()->first, {ErrorCode::kCancelled, "[server] is shutting down"});
}

bool GenerationLoop::take_orders() {
  std::vector<GenerationId> dropped;
  bool going = true;
  {
    std::unique_lock lock(mutex_);
    statistics_.awake_seconds += std::chrono::duration<double>(GenerationClock::now() - awake_since_).count();
    const auto called = [&] { return ending_ || !inbox_.empty() || !cancelled_.empty(); };
    if (std::exchange(starved_, false)) {
      wake_.wait_for(lock, kLookAgain, called);
    } else {
      wake_.wait(lock, [&] { return called() || !scheduler_.empty(); });
    }
    awake_since_ = GenerationClock::now();
    members_.merge(inbox_);
    for (const GenerationId id : cancelled_) {
      if (members_.contains(id)) dropped.push_back(id);
    }
    cancelled_.clear();
    going = !ending_;
  }
  for (const GenerationId id : dropped) fail(id, {ErrorCode::kCancelled, "[request] was cancelled"});
  return going;
}

void GenerationLoop::drop_expired() {
  const auto time = GenerationClock::now();
  std::vector<GenerationId> late;
  for (const auto& [id, member] : members_) {
    const auto& deadline = member.sequence.request().deadline;
    if (deadline && *deadline <= time) late.push_back(id);
  }
  for (const GenerationId id : late) fail(id, {ErrorCode::kResourceExhausted, "[request] its time ran out"});
}

void GenerationLoop::select() {
  Scheduler::Selection selection;
  {
    const std::lock_guard lock(mutex_);
    members_.merge(inbox_);  // the scheduler knows them already
    // What the store holds in memory it gives back when asked.
    const runtime::StatePool& states = engine_.states();
    const std::uint64_t in_use = states.states_in_use();
    std::uint64_t room = states.capacity() > in_use ? states.capacity() - in_use : 0;
    if (store_ != nullptr) room += store_->statistics().memory_bytes / states.bytes_per_state();
    selection = scheduler_.select(now(), static_cast<std::int64_t>(std::min<std::uint64_t>(room, 1U << 20)));
    statistics_.parkings += selection.park.size();
  }
  for (const GenerationId id : selection.run) {
    Member& member = members_.at(id);
    guarded(id, [&] {
      if (!member.sequence.has_state() && !begin(member)) return;
      if (member.sequence.wants_token() && !member.sequence.logits().empty()) draw(member, member.sequence.logits());
    });
  }
}

// False: there is no memory for it now, and it waits on.
bool GenerationLoop::begin(Member& member) {
  Sequence& sequence = member.sequence;
  const runtime::StatePool& states = engine_.states();
  while (true) {
    try {
      // Before the lookup, which counts as a use of what it finds.
      if (states.states_in_use() >= states.capacity() && !sequence.request().state) {
        throw runtime::ExhaustedError("no memory is left for another state", "");
      }
      sequence.begin(store_);
      break;
    } catch (const runtime::ExhaustedError&) {
      if (store_ != nullptr && store_->give_back(states.bytes_per_state())) continue;
      const std::lock_guard lock(mutex_);
      scheduler_.put_back(sequence.id(), now());
      return false;
    }
  }
  const auto time = GenerationClock::now();
  const bool first = !std::exchange(member.begun, true);
  const std::chrono::duration<double> waited = time - member.submitted;
  {
    const std::lock_guard lock(mutex_);
    scheduler_.prompt_left(sequence.id(), sequence.prompt_left(), sequence.until_cut());
    if (first) {
      statistics_.queue_seconds.add(waited.count());
      if (!sequence.request().state) ++statistics_.lookups[std::string(word_of(sequence.lookup().reason))];
      statistics_.reused_tokens += static_cast<std::uint64_t>(sequence.reused());
      GenerationStatistics::KeyUsage& of_key = usage(sequence.request().key);
      of_key.prompt_tokens += static_cast<std::uint64_t>(sequence.prompt_tokens());
      of_key.reused_tokens += static_cast<std::uint64_t>(sequence.reused());
    }
  }
  sequence.started(waited);
  return true;
}

std::vector<std::vector<GenerationLoop::Work>> GenerationLoop::batches(std::vector<Work> work) {
  std::vector<std::vector<Work>> result;
  std::vector<Work> together;
  for (const Work& part : work) {
    if (options_.batch_invariant || members_.at(part.id).sequence.is_suspect()) {
      result.push_back({part});
    } else {
      together.push_back(part);
    }
  }
  if (!together.empty()) result.push_back(std::move(together));
  return result;
}

void GenerationLoop::step() {
  std::vector<Work> work;
  {
    const std::lock_guard lock(mutex_);
    work = scheduler_.step(now());
    starved_ = work.empty() && !scheduler_.empty();
  }
  for (std::vector<Work>& batch : batches(std::move(work))) {
    // Batches before may have ended some, or sent them back.
    std::erase_if(batch, [&](const Work& part) {
      const auto found = members_.find(part.id);
      return found == members_.end() || !found->second.sequence.has_state();
    });
    if (!batch.empty()) step_batch(std::move(batch));
  }
}

void GenerationLoop::step_batch(std::vector<Work> batch) {
  runtime::LogitRows rows;
  const auto begin = GenerationClock::now();
  while (true) {
    std::vector<runtime::StepRequest> requests;
    requests.reserve(batch.size());
    for (const Work& part : batch) {
      requests.push_back(members_.at(part.id).sequence.request_of(part.prompt_tokens));
    }
    try {
      rows = engine_.step(requests);
      break;
    } catch (const runtime::ExhaustedError&) {
      if (!make_room(batch)) return;
    } catch (const std::exception& wrong) {
      return blame(batch, {ErrorCode::kCorrupt, fmt::format("[engine] {}", wrong.what())});
    }
  }
  const double took = std::chrono::duration<double>(GenerationClock::now() - begin).count();
  std::int64_t row = 0;
  {
    const std::lock_guard lock(mutex_);
    scheduler_.stepped(batch, took, now());
    ++statistics_.steps;
    statistics_.step_seconds.add(took);
    statistics_.batch_sequences.add(static_cast<double>(batch.size()));
    for (const Work& part : batch) statistics_.prefill_tokens += static_cast<std::uint64_t>(part.prompt_tokens);
  }
  for (const Work& part : batch) {
    const Sequence& sequence = members_.at(part.id).sequence;
    const bool has_row = part.prompt_tokens == 0 || part.prompt_tokens == sequence.prompt_left();
    settle(part, has_row ? rows.row(row++) : std::span<const float>());
  }
}

// A step found no memory: takes some from the store, then sets the youngest aside, and a last one takes from those
// that are set aside. False: nothing is left of the batch.
bool GenerationLoop::make_room(std::vector<Work>& batch) {
  if (store_ != nullptr && store_->give_back(engine_.states().bytes_per_state())) return true;
  const auto youngest = std::ranges::max_element(batch, {}, &Work::id);
  if (batch.size() > 1) {
    const std::lock_guard lock(mutex_);
    scheduler_.park(youngest->id, now(), now() + std::chrono::duration<double>(kLookAgain).count());
    ++statistics_.parkings;
    batch.erase(youngest);
    return true;
  }
  for (auto& [id, member] : members_ | std::views::reverse) {
    if (id == batch.front().id || !member.sequence.has_state()) continue;
    member.sequence.restart();
    const std::lock_guard lock(mutex_);
    scheduler_.restart(id, now());
    ++statistics_.restarts;
    return true;
  }
  fail(batch.front().id, {ErrorCode::kResourceExhausted,
                          "[engine] the memory for states is used up, and this sequence is the only one that has any"});
  return false;
}

void GenerationLoop::blame(std::span<const Work> batch, const Error& error) {
  if (batch.size() == 1) return fail(batch.front().id, error);
  for (const Work& part : batch) {
    Sequence& sequence = members_.at(part.id).sequence;
    sequence.suspect();
    sequence.restart();
    const std::lock_guard lock(mutex_);
    scheduler_.restart(part.id, now());
    ++statistics_.restarts;
  }
}

void GenerationLoop::settle(const Work& work, std::span<const float> row) {
  Member& member = members_.at(work.id);
  guarded(work.id, [&] {
    Sequence& sequence = member.sequence;
    sequence.read(work.prompt_tokens, row, store_);
    if (work.prompt_tokens > 0) {
      const std::lock_guard lock(mutex_);
      scheduler_.prompt_left(work.id, sequence.prompt_left(), sequence.until_cut());
    }
    if (sequence.wants_token()) return draw(member, row);
    if (sequence.is_reported()) end(work.id);
  });
}

void GenerationLoop::draw(Member& member, std::span<const float> logits) {
  Sequence& sequence = member.sequence;
  const std::int64_t before = sequence.generated();
  const bool going = sequence.draw(logits, store_);
  if (sequence.generated() > before) {
    const auto time = GenerationClock::now();
    const std::lock_guard lock(mutex_);
    ++statistics_.generated_tokens;
    ++usage(sequence.request().key).generated_tokens;
    const auto since = [&](GenerationClock::time_point from) {
      return std::chrono::duration<double>(time - from).count();
    };
    if (member.last_token) {
      statistics_.token_seconds.add(since(*member.last_token));
    } else {
      statistics_.first_token_seconds.add(since(member.submitted));
    }
    member.last_token = time;
  }
  if (!going) end(sequence.id());
}

// What a sequence's own parts throw (its mask, its sink, a state of another engine) is that sequence's failure.
template <class Attempt>
bool GenerationLoop::guarded(GenerationId id, const Attempt& attempt) {
  try {
    attempt();
    return true;
  } catch (const UserError& wrong) {
    fail(id, error_of(wrong, ErrorCode::kInvalidArgument));
  } catch (const std::exception& wrong) {
    fail(id, error_of(wrong, ErrorCode::kCorrupt));
  }
  return false;
}

void GenerationLoop::fail(GenerationId id, Error error) {
  auto member = members_.extract(id);
  if (member.empty()) return;
  const bool cancelled = error.code == ErrorCode::kCancelled;
  try {
    member.mapped().sequence.fail(std::move(error));
  } catch (const std::exception&) {
    // A sink that throws has nobody else to tell.
  }
  member = {};  // its state is free before anybody hears that all is done
  const std::lock_guard lock(mutex_);
  ++(cancelled ? statistics_.cancelled : statistics_.failed);
  scheduler_.remove(id);
  if (scheduler_.empty()) idle_.notify_all();
}

void GenerationLoop::end(GenerationId id) {
  auto member = members_.extract(id);
  const std::string reason(runtime::to_string(*member.mapped().sequence.reason()));
  member = {};
  const std::lock_guard lock(mutex_);
  ++statistics_.finished[reason];
  scheduler_.finish(id);
  if (scheduler_.empty()) idle_.notify_all();
}

}  // namespace krait::server
