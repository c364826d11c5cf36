// The thread that generates for everybody: it takes requests, has the scheduler choose what the next step of the engine
// holds, runs it, and tells each sequence's sink what came of it.
//
// What a sequence says does not depend on who else is there, nor on being parked: dense products, scans and attention
// give a row the same bits in any batch (docs/architecture.md, the law), and prompts are cut where that changes nothing
// (scheduler.h). The exceptions are weights that are used in place, states that are rounded, RWKV-7 in its authors'
// layout and ranks of Mamba-3 that are no power of two: `batch_invariant` gives these the same bits too, at the price
// of steps that are not shared.
//
// A sequence that has no memory to go on, or stands in the way of one that has none, is parked on the disk where there
// is one, and comes back to the same bits. Without a disk it computes its state anew, which gives the same bits too.
//
// Nothing here ends the loop: what goes wrong fails the sequence it belongs to. Where a step of several sequences
// throws, their states are not to be trusted; they begin again and step alone until it is known whose fault it was.
#pragma once

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
};

class GenerationLoop final : public Generator {
 public:
  // All must outlive the loop; nobody else may step the engine meanwhile. `store` may be null.
  GenerationLoop(runtime::Engine& engine, const formats::Tokenizer& tokenizer, runtime::StateStore* store,
                 const GenerationLoopOptions& options = {});
  ~GenerationLoop() override;
  GenerationLoop(const GenerationLoop&) = delete;
  GenerationLoop& operator=(const GenerationLoop&) = delete;

  std::expected<GenerationId, GenerationRefusal> submit(GenerationRequest request,
                                                        std::shared_ptr<GenerationSink> sink) override;
  void cancel(GenerationId id) override;
  GenerationStatistics statistics() const override;
  bool drain(std::chrono::milliseconds limit) override;
  void stop() override;

 private:
  struct Member {
    Sequence sequence;
    GenerationClock::time_point submitted;
    std::optional<GenerationClock::time_point> last_token;
    bool begun = false;
  };
  using Work = Scheduler::Work;
  // How long to sleep where there is work and no memory for it: others may let go of states at any time.
  static constexpr std::chrono::milliseconds kLookAgain{5};

  double seconds(GenerationClock::time_point at) const { return std::chrono::duration<double>(at - epoch_).count(); }
  double now() const { return seconds(GenerationClock::now()); }

  // The loop's thread.
  void run();
  bool take_orders();  // false: end
  void drop_expired();
  void select();
  bool begin(Member& member);
  void step();
  void step_batch(std::vector<Work> batch);
  bool make_room(std::vector<Work>& batch);
  void blame(std::span<const Work> batch, const Error& error);
  bool set_aside(GenerationId but);
  void settle(std::span<const Work> batch, std::span<const runtime::StepRequest> requests,
              const runtime::StepRows& rows);
  void settle(const Work& work, const runtime::OutputRows& rows, const Sequence::Offer& offer = {});
  void draw(Member& member, const Sequence::Offer& offer);
  void fail(GenerationId id, Error error);
  void end(GenerationId id);
  template <class Attempt>
  bool guarded(GenerationId id, const Attempt& attempt);
  std::vector<std::vector<Work>> batches(std::vector<Work> work);
  GenerationStatistics::KeyUsage& usage(const std::string& key);  // with the mutex held

  runtime::Engine& engine_;
  const formats::Tokenizer& tokenizer_;
  runtime::StateStore* const store_;
  const GenerationLoopOptions options_;
  // The vocabulary is so large that logits of all that decode would be too many: the head is computed in stretches for
  // those that need their likeliest tokens alone, and in pieces for the others.
  const bool in_stretches_;
  const std::int64_t drawable_;
  const GenerationClock::time_point epoch_ = GenerationClock::now();

  std::map<GenerationId, Member> members_;                            // the loop's thread alone
  GenerationClock::time_point awake_since_ = GenerationClock::now();  // the loop's thread alone

  mutable std::mutex mutex_;  // of all below
  std::condition_variable wake_;
  std::condition_variable idle_;
  Scheduler scheduler_;
  std::map<GenerationId, Member> inbox_;
  std::set<GenerationId> cancelled_;
  GenerationStatistics statistics_;
  GenerationId last_id_ = 0;
  bool draining_ = false;
  bool ending_ = false;
  bool starved_ = false;  // nothing could be done: look again in a while
  std::thread thread_;
};

}  // namespace krait::server
