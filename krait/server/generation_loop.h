// The threads that generate for everybody: they take requests, have the scheduler choose what the next step of the
// engine holds, run it, and tell each sequence's sink what came of it. Together (core_groups.h) one thread does all of
// that; apart, it steps those that decode, and a second one reads prompts, each in its lane of the engine.
//
// Locks. `turn_` is held by a thread for all that it does but waiting and computing in its lane: steps, and heads
// behind them. Sequences, sinks and masks are therefore used by one thread at a time, in turn. `mutex_` guards the
// little that others ask for or change, and is taken with the turn held or without it; nobody who holds it waits for
// the turn. What a thread took into its step is its own until it has settled that (Member::holder): the other one
// neither fails, parks on the disk nor restarts it, but leaves word (Member::doomed), and the scheduler gives it to no
// other step.
//
// What a sequence says does not depend on who else is there, nor on being parked, nor on the lane: dense products,
// scans and attention give a row the same bits in any batch on any number of threads (docs/architecture.md, the law),
// and prompts are cut where that changes nothing (scheduler.h). The exceptions are weights that are used in place,
// states that are rounded, RWKV-7 in its authors' layout and ranks of Mamba-3 that are no power of two:
// `batch_invariant` gives these the same bits too, at the price of steps that are not shared.
//
// A sequence that has no memory to go on, or stands in the way of one that has none, is parked on the disk where there
// is one, and comes back to the same bits. Without a disk it computes its state anew, which gives the same bits too.
//
// Nothing here ends the loop: what goes wrong fails the sequence it belongs to. Where a step of several sequences
// throws, their states are not to be trusted; they begin again and step alone until it is known whose fault it was.
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include "krait/runtime/engine.h"
#include "krait/runtime/state_parking.h"
#include "krait/runtime/state_store.h"
#include "krait/server/generation.h"
#include "krait/server/scheduler.h"
#include "krait/server/sequence.h"

namespace krait::server {

struct GenerationLoopOptions {
  // most_step_tokens and most_step_rows are held within what the engine takes.
  SchedulerOptions scheduler = {};
  // Prompts are cut at the engine's chunks only, and nobody shares a step.
  bool batch_invariant = false;
  // For large vocabularies; off only to be compared with.
  bool head_in_stretches = true;
  // Where states of sequences that are set aside go when memory is full. None: they are computed anew.
  runtime::StateParking* parking = nullptr;
  CoreGroups core_groups = {};
};

class GenerationLoop final : public Generator {
 public:
  // All must outlive the loop; nobody else may step the engine meanwhile. `store` may be null. Throws UserError for
  // groups of cores that the engine does not have.
  GenerationLoop(runtime::Engine& engine, const formats::Tokenizer& tokenizer, runtime::StateStore* store,
                 const GenerationLoopOptions& options = {});
  ~GenerationLoop() override;
  GenerationLoop(const GenerationLoop&) = delete;
  GenerationLoop& operator=(const GenerationLoop&) = delete;

  std::expected<GenerationId, GenerationRefusal> submit(GenerationRequest request,
                                                        std::shared_ptr<GenerationSink> sink) override;
  void cancel(GenerationId id) override;
  GenerationStatistics statistics() const override;
  Result<void> set_core_groups(const CoreGroups& groups) override;
  bool drain(std::chrono::milliseconds limit) override;
  void stop() override;

 private:
  using Work = Scheduler::Work;
  using LanePtr = std::shared_ptr<runtime::Lane>;
  struct LaneThread {
    bool is_first = false;
    std::thread thread = {};
    // Its own:
    LanePtr lane = {};  // where it stepped last; the one over all cores at first
    LaneRole role = LaneRole::mixed;
    std::vector<Work> taken = {};  // into its step
    GenerationClock::time_point awake_since = GenerationClock::now();
    bool idle = false;       // there was nothing for it: the other one, or a request, has to bring something
    bool starved = false;    // there is something, and no memory or time for it yet: look again in a while
    std::uint64_t seen = 0;  // of changes_
  };
  struct Member {
    Sequence sequence;
    GenerationClock::time_point submitted;
    std::optional<GenerationClock::time_point> last_token;
    bool begun = false;
    const LaneThread* holder = nullptr;  // has it in its step
    std::optional<Error> doomed = {};    // it fails when it is settled
  };
  using Turn = std::unique_lock<std::mutex>;
  // While it lives, the others have their turn.
  class OthersTurn {
   public:
    explicit OthersTurn(Turn& turn) : turn_(turn) { turn_.unlock(); }
    ~OthersTurn() { turn_.lock(); }
    OthersTurn(const OthersTurn&) = delete;
    OthersTurn& operator=(const OthersTurn&) = delete;

   private:
    Turn& turn_;
  };
  // How long to sleep where there is work and no memory for it: others may let go of states at any time.
  static constexpr std::chrono::milliseconds kLookAgain{5};

  double seconds(GenerationClock::time_point at) const { return std::chrono::duration<double>(at - epoch_).count(); }
  double now() const { return seconds(GenerationClock::now()); }

  void start_threads();
  // With the turn.
  void run(LaneThread& self);
  bool take_orders(LaneThread& self, Turn& turn);  // false: end
  void drop(GenerationId id, Error error);         // as soon as it can be
  void drop_expired();
  void select(LaneThread& self);
  bool begin(Member& member);
  void step(LaneThread& self, Turn& turn);
  bool take_work(LaneThread& self);
  void release_work(LaneThread& self);
  void step_batch(LaneThread& self, Turn& turn, std::vector<Work> batch);
  bool make_room(LaneThread& self, std::vector<Work>& batch);
  void blame(std::span<const Work> batch, const Error& error);
  bool set_aside(GenerationId but);
  void settle(LaneThread& self, Turn& turn, std::span<const Work> batch, std::span<const runtime::StepRequest> requests,
              const runtime::StepRows& rows);
  void settle(LaneThread& self, const Work& work, const runtime::OutputRows& rows, const Sequence::Offer& offer = {});
  void draw(Member& member, const Sequence::Offer& offer);
  void fail(GenerationId id, Error error);
  void end(GenerationId id);
  template <class Attempt>
  bool guarded(GenerationId id, const Attempt& attempt);
  std::vector<std::vector<Work>> batches(std::vector<Work> work);

  // With the mutex.
  GenerationStatistics::KeyUsage& usage(const std::string& key);
  bool takes_part(const LaneThread& self) const { return self.is_first || scheduler_.apart(); }
  // There may be work for the other thread; by one of them, or by those who ask.
  void changed(LaneThread* by = nullptr);

  runtime::Engine& engine_;
  const formats::Tokenizer& tokenizer_;
  runtime::StateStore* const store_;
  const GenerationLoopOptions options_;
  // The vocabulary is so large that logits of all that decode would be too many: the head is computed in stretches for
  // those that need their likeliest tokens alone, and in pieces for the others.
  const bool in_stretches_;
  const std::int64_t drawable_;
  const GenerationClock::time_point epoch_ = GenerationClock::now();

  std::mutex turn_;  // of the next one
  std::map<GenerationId, Member> members_;

  mutable std::mutex mutex_;  // of all below but the threads
  std::condition_variable wake_;
  std::condition_variable idle_;
  Scheduler scheduler_;
  std::map<GenerationId, Member> inbox_;
  std::set<GenerationId> cancelled_;
  GenerationStatistics statistics_;
  GenerationId last_id_ = 0;
  bool draining_ = false;
  bool ending_ = false;
  std::array<LanePtr, kLaneRoles> lanes_;  // by LaneRole; those apart only where they may be
  std::uint64_t changes_ = 0;              // by which the one may have work that the other did not see
  int threads_left_ = 0;
  std::array<LaneThread, 2> threads_;
};

}  // namespace krait::server
