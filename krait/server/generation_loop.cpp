#include "krait/server/generation_loop.h"

#include <algorithm>
#include <exception>
#include <ranges>
#include <utility>

#include "krait/core/check.h"
#include "krait/runtime/prompt.h"
#include "krait/runtime/slab.h"

namespace krait::server {
namespace {

constexpr std::size_t kMostKeys = 1000;

bool wants_stretches(const GenerationLoopOptions& options, const runtime::Engine& engine) {
  return options.head_in_stretches && engine.heads_in_stretches() &&
         engine.logit_rows_at_once() < options.scheduler.most_step_rows;
}

SchedulerOptions scheduler_options(const GenerationLoopOptions& options, const runtime::Engine& engine) {
  SchedulerOptions result = options.scheduler;
  if (options.batch_invariant) result.grid = engine.options().prefill_chunk;
  // Nothing is cut below the grid, and a chunk is the most of one sequence that a step takes.
  result.most_step_tokens =
      std::max(std::min(result.most_step_tokens, engine.options().prefill_chunk), result.grid + 1);
  if (!wants_stretches(options, engine)) {
    result.most_step_rows = std::clamp<std::int64_t>(engine.logit_rows_at_once(), 2, result.most_step_rows);
  }
  result.most_begun = std::max(result.most_begun, result.slots);
  return result;
}

std::vector<double> seconds_bounds() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120};
}

Error error_of(const std::exception& wrong) {
  if (const auto* user = dynamic_cast<const UserError*>(&wrong)) return {ErrorCode::kInvalidArgument, user->what()};
  if (dynamic_cast<const std::bad_alloc*>(&wrong) != nullptr) {
    return {ErrorCode::kResourceExhausted, "no memory is left"};
  }
  return {ErrorCode::kInternal, wrong.what()};
}

}  // namespace

GenerationLoop::GenerationLoop(runtime::Engine& engine, const formats::Tokenizer& tokenizer, runtime::StateStore* store,
                               const GenerationLoopOptions& options)
    : engine_(engine),
      tokenizer_(tokenizer),
      store_(store),
      options_(options),
      in_stretches_(wants_stretches(options, engine)),
      drawable_(runtime::drawable_vocabulary(engine.model().info(), &tokenizer)),
      scheduler_(scheduler_options(options, engine)) {
  for (Histogram* of : {&statistics_.queue_seconds, &statistics_.first_token_seconds, &statistics_.token_seconds,
                        &statistics_.step_seconds}) {
    *of = Histogram(seconds_bounds());
  }
  statistics_.batch_sequences = Histogram({1, 2, 4, 8, 16, 32, 64, 128});
  lanes_[index_of(LaneRole::mixed)] = LanePtr(LanePtr(), &engine.whole());
  if (auto set = set_core_groups(options.core_groups); !set) throw UserError(set.error().message, "");
  start_threads();
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
  const bool apart = scheduler_.apart();
  const CostModel::Line& writing = scheduler_.cost(apart ? LaneRole::decodes : LaneRole::mixed).line();
  result.cost_base_seconds = writing.base;
  result.cost_decode_seconds = writing.row;
  result.cost_prompt_token_seconds = scheduler_.cost(apart ? LaneRole::prompts : LaneRole::mixed).line().token;
  result.core_groups = scheduler_.core_groups();
  result.apart = apart;
  result.group_switches = scheduler_.group_switches();
  for (const LaneRole role : {LaneRole::mixed, LaneRole::prompts, LaneRole::decodes}) {
    GenerationStatistics::LaneUsage& lane = result.lanes[index_of(role)];
    lane.cores = scheduler_.cores_of(role);
    lane.cost = scheduler_.cost(role).line();
  }
  for (const bool mode : {false, true}) {
    const GroupController::Prediction predicted = scheduler_.predicted(mode, now());
    result.predicted_groups[mode ? 1 : 0] = {predicted.token_seconds, predicted.first_token_seconds};
  }
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
  // A sink may stop the loop that calls it; the threads end by themselves then.
  const auto here = std::this_thread::get_id();
  if (std::ranges::any_of(threads_, [&](const LaneThread& of) { return of.thread.get_id() == here; })) return;
  for (LaneThread& of : threads_) {
    if (of.thread.joinable()) of.thread.join();
  }
}

GenerationStatistics::KeyUsage& GenerationLoop::usage(const std::string& key) {
  const auto found = statistics_.keys.find(key);
  if (found != statistics_.keys.end()) return found->second;
  return statistics_.keys[statistics_.keys.size() < kMostKeys ? key : std::string()];
}

void GenerationLoop::drop_expired() {
  const auto time = GenerationClock::now();
  std::vector<GenerationId> late;
  for (const auto& [id, member] : members_) {
    const auto& deadline = member.sequence.request().deadline;
    if (deadline && *deadline <= time) late.push_back(id);
  }
  for (const GenerationId id : late) drop(id, {ErrorCode::kResourceExhausted, "[request] its time ran out"});
}

void GenerationLoop::select(LaneThread& self) {
  Scheduler::Selection selection;
  {
    const std::lock_guard lock(mutex_);
    members_.merge(inbox_);  // the scheduler knows them already
    const bool was_apart = scheduler_.apart();
    // What the store holds in memory it gives back when asked.
    const runtime::StatePool& states = engine_.states();
    const std::uint64_t in_use = states.states_in_use();
    std::uint64_t room = states.capacity() > in_use ? states.capacity() - in_use : 0;
    if (store_ != nullptr) room += store_->statistics().memory_bytes / states.bytes_per_state();
    constexpr std::uint64_t kMany = 1U << 20;
    if (options_.parking == nullptr) {
      selection = scheduler_.select(now(), static_cast<std::int64_t>(std::min(room, kMany)));
    } else {
      // Those that are set aside make room, too: memory bounds who takes part, and not who begins.
      const auto here = std::ranges::count_if(members_, [](const auto& of) { return of.second.sequence.has_state(); });
      room += static_cast<std::uint64_t>(here + options_.parking->in_memory());
      selection = scheduler_.select(now(), kMany, static_cast<std::int64_t>(std::clamp<std::uint64_t>(room, 1, kMany)));
    }
    statistics_.parkings += selection.park.size();
    if (scheduler_.apart() != was_apart) changed(&self);
  }
  bool any = false;
  for (const GenerationId id : selection.run) {
    Member& member = members_.at(id);
    guarded(id, [&] {
      if (!member.sequence.has_state() && !begin(member)) return;
      any = true;
      if (member.sequence.wants_token() && !member.sequence.logits().empty())
        draw(member, {.logits = member.sequence.logits()});
    });
  }
  if (any) {
    const std::lock_guard lock(mutex_);
    changed(&self);
  }
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

void GenerationLoop::step(LaneThread& self, Turn& turn) {
  if (!take_work(self)) return;
  for (std::vector<Work>& batch : batches(self.taken)) {
    // Batches before may have ended some, or sent them back.
    std::erase_if(batch, [&](const Work& part) {
      const auto found = members_.find(part.id);
      return found == members_.end() || !found->second.sequence.has_state();
    });
    if (!batch.empty()) step_batch(self, turn, std::move(batch));
  }
  release_work(self);
}

void GenerationLoop::step_batch(LaneThread& self, Turn& turn, std::vector<Work> batch) {
  runtime::StepRows rows;
  std::vector<runtime::StepRequest> requests;
  const auto use_of = [&](const Work& part) { return members_.at(part.id).sequence.head_use(part.prompt_tokens); };
  // Rows that are used alike stand together.
  if (in_stretches_) std::ranges::stable_sort(batch, {}, use_of);
  double took = 0;  // of the engine: without what the other one's turn takes
  while (true) {
    requests.clear();
    for (const Work& part : batch) {
      requests.push_back(members_.at(part.id).sequence.request_of(part.prompt_tokens, in_stretches_));
    }
    try {
      const OthersTurn others(turn);
      const auto begin = GenerationClock::now();
      rows = self.lane->step(requests);
      took = std::chrono::duration<double>(GenerationClock::now() - begin).count();
      break;
    } catch (const runtime::ExhaustedError&) {
      if (!make_room(self, batch)) return;
    } catch (const std::exception& wrong) {
      Error error = error_of(wrong);
      error.message = fmt::format("[engine] {}", error.message);
      return blame(batch, error);
    }
  }
  {
    const std::lock_guard lock(mutex_);
    scheduler_.stepped(batch, took, now(), self.role);
    GenerationStatistics::LaneUsage& lane = statistics_.lanes[index_of(self.role)];
    ++lane.steps;
    lane.seconds += took;
    lane.sequences += batch.size();
    ++statistics_.steps;
    statistics_.step_seconds.add(took);
    statistics_.batch_sequences.add(static_cast<double>(batch.size()));
    for (const Work& part : batch) statistics_.prefill_tokens += static_cast<std::uint64_t>(part.prompt_tokens);
  }
  settle(self, turn, batch, requests, rows);
}

void GenerationLoop::settle(LaneThread& self, Turn& turn, std::span<const Work> batch,
                            std::span<const runtime::StepRequest> requests, const runtime::StepRows& rows) {
  using HeadUse = Sequence::HeadUse;
  struct Part {
    HeadUse use;
    std::int64_t first;  // row
    runtime::OutputRows rows;
  };
  std::int64_t logit_row = 0, hidden_row = 0;
  std::vector<Part> parts;
  std::vector<std::int64_t> counts;
  std::int64_t first_likeliest = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const runtime::StepRequest& request = requests[i];
    const std::int64_t count = std::ssize(request.tokens) - request.wanted_from;
    const bool logits = request.output == runtime::StepOutput::kLogits;
    std::int64_t& first = logits ? logit_row : hidden_row;
    const Sequence& sequence = members_.at(batch[i].id).sequence;
    const HeadUse use = in_stretches_ ? sequence.head_use(batch[i].prompt_tokens) : HeadUse::none;
    parts.push_back({use, first, (logits ? rows.logits : rows.hidden).slice(first, count)});
    if (use == HeadUse::likeliest) {
      if (counts.empty()) first_likeliest = first;
      counts.push_back(sequence.likeliest());
    }
    first += count;
  }
  std::vector<std::vector<runtime::LikelyToken>> likeliest;
  if (!counts.empty()) {
    const OthersTurn others(turn);
    likeliest = self.lane->likeliest_of(rows.hidden.slice(first_likeliest, std::ssize(counts)), counts, drawable_);
  }
  const std::int64_t most = engine_.logit_rows_at_once();
  std::int64_t next_likeliest = 0, piece_begin = 0;
  runtime::OutputRows piece;  // of logits
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const Part& part = parts[i];
    switch (part.use) {
      case HeadUse::none: settle(self, batch[i], part.rows); break;
      case HeadUse::logits: {
        // They stand first in the step, a row each.
        if (part.first >= piece_begin + piece.rows) {
          const auto is_whole = [](const Part& of) { return of.use == HeadUse::logits; };
          const std::int64_t left = std::ranges::count_if(std::span(parts).subspan(i), is_whole);
          piece_begin = part.first;
          const OthersTurn others(turn);
          piece = self.lane->logits_of(rows.hidden.slice(part.first, std::min(most, left)));
        }
        settle(self, batch[i], piece.slice(part.first - piece_begin, 1));
        break;
      }
      case HeadUse::likeliest:
        settle(self, batch[i], {},
               {.likeliest = likeliest[static_cast<std::size_t>(next_likeliest++)],
                .hidden = part.rows,
                .lane = self.lane.get()});
        break;
    }
  }
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

void GenerationLoop::settle(LaneThread& self, const Work& work, const runtime::OutputRows& rows,
                            const Sequence::Offer& offer) {
  Member& member = members_.at(work.id);
  guarded(work.id, [&] {
    Sequence& sequence = member.sequence;
    const std::span<const float> row = sequence.read(*self.lane, work.prompt_tokens, rows, store_);
    if (work.prompt_tokens > 0) {
      const std::lock_guard lock(mutex_);
      scheduler_.prompt_left(work.id, sequence.prompt_left(), sequence.until_cut());
    }
    if (sequence.wants_token()) return draw(member, offer.likeliest.empty() ? Sequence::Offer{.logits = row} : offer);
    if (sequence.is_reported()) end(work.id);
  });
}

void GenerationLoop::draw(Member& member, const Sequence::Offer& offer) {
  Sequence& sequence = member.sequence;
  const std::int64_t before = sequence.generated();
  const bool going = sequence.draw(offer);
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
  if (going) return;
  sequence.report(store_);
  end(sequence.id());
}

// What a sequence's own parts throw (its mask, its sink, a state of another engine) is that sequence's failure.
template <class Attempt>
bool GenerationLoop::guarded(GenerationId id, const Attempt& attempt) {
  try {
    attempt();
    return true;
  } catch (const std::exception& wrong) {
    fail(id, error_of(wrong));
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
  if (member.mapped().sequence.is_spilled()) member.mapped().sequence.drop_spilled(*options_.parking);
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
