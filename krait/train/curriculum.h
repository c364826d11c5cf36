// Which objectives a run trains on, decided as it goes (Blouir et al. 2024, "Birdie", section on reward-driven
// sampling). Every so many steps each objective's loss on held-out pieces is measured; how it changed is the reward of
// the mixture that was trained on meanwhile. A network learns from all such outcomes what a mixture will be worth,
// candidates are drawn, and the next mixture is the mean of those from which it expects most:
//   sum over objectives of reward / (how many objectives are of its kind)
// By a chance that falls over the run a mixture is drawn instead.
//
// All chance is told by the seed and the number of the decision, and the rest is in the state providers: a run goes on
// to the bit.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "krait/core/random.h"
#include "krait/train/checkpoint_reader.h"
#include "krait/train/checkpoint_state.h"
#include "krait/train/curriculum_options.h"
#include "krait/train/reward_network.h"

namespace krait::train {

struct CurriculumDecision {
  std::int64_t step = 0;        // steps that were taken before it
  std::vector<double> losses;   // of the objectives, then
  std::vector<double> rewards;  // of the mixture until then; none for the first
  std::vector<double> mixture;  // from then on, of sum 1
  double expected = 0.0;        // what the network expects of it, summed and against what is usual; 0 where it was
                                // drawn or given
  bool drawn = false;
  bool operator==(const CurriculumDecision&) const = default;
};

class Curriculum {
 public:
  struct Objective {
    std::string name;
    std::string kind;     // objectives of one kind share one vote
    double weight = 1.0;  // of the first mixture; one of 0 is measured and never trained on
  };
  // kInvalidArgument for fewer than two objectives to choose from. `steps`: of the run.
  static Result<std::unique_ptr<Curriculum>> make(std::vector<Objective> objectives, const CurriculumOptions& options,
                                                  std::int64_t steps);

  // The mixture from `step` on, given every objective's loss now. The first is the one that was given.
  const CurriculumDecision& decide(std::int64_t step, std::span<const double> losses);

  std::span<const CurriculumDecision> decisions() const { return decisions_; }
  std::vector<std::string> names() const;
  const CurriculumOptions& options() const { return options_; }
  const RewardNetwork& network() const { return network_; }

  std::vector<std::unique_ptr<StateProvider>> state_providers() const;
  Result<void> restore(const Checkpoint& checkpoint);

 private:
  Curriculum(std::vector<Objective> objectives, const CurriculumOptions& options, std::int64_t steps);
  // What the network is told of the mixture that decision `index` chose or is to choose.
  std::vector<float> inputs(std::size_t index, std::span<const double> mixture) const;
  double usual_reward(std::size_t index) const;
  std::vector<float> relative_rewards(std::size_t index) const;
  void learn();
  void choose(CurriculumDecision& decision, Random random) const;
  std::vector<std::byte> encoded() const;
  Result<std::vector<CurriculumDecision>> decoded(std::span<const std::byte> bytes) const;

  std::vector<Objective> objectives_;
  std::vector<bool> open_;     // whether an objective may have a share
  std::vector<double> votes_;  // 1 / objectives of its kind
  CurriculumOptions options_;
  std::int64_t steps_;
  RewardNetwork network_;
  std::vector<CurriculumDecision> decisions_;
};

}  // namespace krait::train
