#include "krait/train/curriculum.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "krait/core/check.h"
#include "krait/train/curriculum_reward.h"
#include "krait/train/random_stream.h"

namespace krait::train {
namespace {

constexpr const char* kProvider = "curriculum";

// A loss as a share of the first one; bounded, so that one that went astray leaves the network its numbers.
float relative(double loss, double first) {
  constexpr double kMost = 10.0;
  const double share = first > 0.0 ? loss / first : 0.0;
  return static_cast<float>(std::isfinite(share) ? std::min(share, kMost) : kMost);
}

std::int64_t input_count(std::size_t objectives, std::int64_t history) {
  return static_cast<std::int64_t>(objectives) * (2 * history + 1);
}

}  // namespace

Result<std::unique_ptr<Curriculum>> Curriculum::make(std::vector<Objective> objectives,
                                                     const CurriculumOptions& options, std::int64_t steps) {
  const auto open = std::ranges::count_if(objectives, [](const Objective& one) { return one.weight > 0; });
  if (open < 2) {
    return fail(ErrorCode::kInvalidArgument,
                "[curriculum] has two objectives of weight above 0 to choose from at least; [[objective]] names {}",
                open);
  }
  return std::unique_ptr<Curriculum>(new Curriculum(std::move(objectives), options, steps));
}

Curriculum::Curriculum(std::vector<Objective> objectives, const CurriculumOptions& options, std::int64_t steps)
    : objectives_(std::move(objectives)),
      options_(options),
      steps_(steps),
      network_({.inputs = input_count(objectives_.size(), options.history),
                .rewards = static_cast<std::int64_t>(objectives_.size()),
                .rate = options.rate,
                .decay = options.decay,
                .seed = options.seed}) {
  for (const Objective& one : objectives_) {
    open_.push_back(one.weight > 0);
    votes_.push_back(1.0 / static_cast<double>(std::ranges::count(objectives_, one.kind, &Objective::kind)));
  }
}

std::vector<std::string> Curriculum::names() const {
  std::vector<std::string> names;
  for (const Objective& one : objectives_) names.push_back(one.name);
  return names;
}

// The last losses, as shares of the first ones, each with the mixture that led to it; then the mixture in question.
std::vector<float> Curriculum::inputs(std::size_t index, std::span<const double> mixture) const {
  const std::size_t count = objectives_.size();
  std::vector<float> row;
  for (std::size_t back = 0; back < static_cast<std::size_t>(options_.history); ++back) {
    for (std::size_t i = 0; i < count; ++i) {
      row.push_back(back <= index ? relative(decisions_[index - back].losses[i], decisions_.front().losses[i]) : 0.0F);
    }
    for (std::size_t i = 0; i < count; ++i) {
      row.push_back(back < index ? static_cast<float>(decisions_[index - back - 1].mixture[i]) : 0.0F);
    }
  }
  for (const double share : mixture) row.push_back(static_cast<float>(share));
  return row;
}

// The root of the mean of squares of the rewards at look `index` and those before it.
double Curriculum::usual_reward(std::size_t index) const {
  constexpr std::size_t kRecent = 4;
  double squares = 0.0, count = 0.0;
  for (std::size_t d = index; d > 0 && d + kRecent > index; --d) {
    for (std::size_t i = 0; i < open_.size(); ++i) {
      if (!open_[i]) continue;
      squares += decisions_[d].rewards[i] * decisions_[d].rewards[i];
      ++count;
    }
  }
  return squares > 0 ? std::sqrt(squares / count) : 1.0;
}

// The rewards of look `index` against what was usual then: those of a run that learns slowly are thousandths, which a
// network does not tell from its own noise.
std::vector<float> Curriculum::relative_rewards(std::size_t index) const {
  const double usual = usual_reward(index);
  std::vector<float> relative;
  for (const double reward : decisions_[index].rewards) relative.push_back(static_cast<float>(reward / usual));
  return relative;
}

// From outcomes that are drawn of all there are: mixture `index`, and what the next look found.
void Curriculum::learn() {
  const std::size_t outcomes = decisions_.size() - 1;
  std::vector<std::vector<float>> worth;
  for (std::size_t index = 0; index < outcomes; ++index) worth.push_back(relative_rewards(index + 1));
  Random random = random_stream(options_.seed, {stream_name("outcomes"), decisions_.size()});
  for (std::int64_t update = 0; update < options_.updates; ++update) {
    std::vector<float> rows, rewards;
    for (std::int64_t i = 0; i < options_.batch; ++i) {
      const auto index = static_cast<std::size_t>(below(random, outcomes));
      const std::vector<float> row = inputs(index, decisions_[index].mixture);
      rows.insert(rows.end(), row.begin(), row.end());
      rewards.insert(rewards.end(), worth[index].begin(), worth[index].end());
    }
    network_.learn(rows, rewards);
  }
}

void Curriculum::choose(CurriculumDecision& decision, Random random) const {
  const double share = static_cast<double>(decision.step) / static_cast<double>(std::max<std::int64_t>(1, steps_));
  decision.drawn = random.uniform() < exploration_chance(options_.exploration, share);
  if (decision.drawn) {
    decision.mixture = draw_mixture(random, open_, static_cast<int>(below(random, kMixtureFamilies)));
    return;
  }
  std::vector<std::vector<double>> candidates;
  std::vector<float> rows;
  for (std::int64_t i = 0; i < options_.candidates; ++i) {
    candidates.push_back(draw_mixture(random, open_, static_cast<int>(i % kMixtureFamilies)));
    const std::vector<float> row = inputs(decisions_.size() - 1, candidates.back());
    rows.insert(rows.end(), row.begin(), row.end());
  }
  const std::vector<float> predicted = network_.predict(rows);
  std::vector<double> expected(candidates.size(), 0.0);
  for (std::size_t c = 0; c < candidates.size(); ++c) {
    for (std::size_t i = 0; i < votes_.size(); ++i) {
      if (open_[i]) expected[c] += votes_[i] * static_cast<double>(predicted[c * votes_.size() + i]);
    }
  }
  std::vector<std::size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return expected[a] > expected[b]; });
  order.resize(std::min(order.size(), static_cast<std::size_t>(options_.best)));
  decision.mixture.assign(votes_.size(), 0.0);
  const double most = expected[order.front()];
  double weights = 0.0;
  for (const std::size_t c : order) {
    const double weight = options_.temperature > 0 ? std::exp((expected[c] - most) / options_.temperature) : 1.0;
    for (std::size_t i = 0; i < votes_.size(); ++i) decision.mixture[i] += weight * candidates[c][i];
    decision.expected += weight * expected[c];
    weights += weight;
  }
  decision.expected /= weights;
  decision.mixture = normalised(decision.mixture);
}

const CurriculumDecision& Curriculum::decide(std::int64_t step, std::span<const double> losses) {
  KRAIT_CHECK_EQ(losses.size(), objectives_.size());
  CurriculumDecision decision{.step = step, .losses = {losses.begin(), losses.end()}, .rewards = {}, .mixture = {}};
  if (decisions_.empty()) {
    std::vector<double> weights;
    for (const Objective& one : objectives_) weights.push_back(one.weight);
    decision.mixture = normalised(weights);
    decisions_.push_back(std::move(decision));
    return decisions_.back();
  }
  // Rewards are of relative changes, and near 0 those are large whatever is trained on.
  const auto counted = [this](double loss) { return std::max(loss, options_.learned); };  // no number stays none
  for (std::size_t i = 0; i < losses.size(); ++i) {
    decision.rewards.push_back(loss_reward(counted(decisions_.back().losses[i]), counted(losses[i])));
  }
  decisions_.push_back(std::move(decision));
  learn();
  choose(decisions_.back(), random_stream(options_.seed, {stream_name("mixture"), decisions_.size()}));
  return decisions_.back();
}

// Numbers of 64 bits: objectives, decisions; of each decision its step, drawn, expected, and for each objective loss,
// reward (0 in the first) and share.
std::vector<std::byte> Curriculum::encoded() const {
  std::vector<std::uint64_t> numbers = {objectives_.size(), decisions_.size()};
  const auto put = [&](double value) { numbers.push_back(std::bit_cast<std::uint64_t>(value)); };
  for (const CurriculumDecision& decision : decisions_) {
    numbers.push_back(static_cast<std::uint64_t>(decision.step));
    numbers.push_back(decision.drawn ? 1 : 0);
    put(decision.expected);
    for (std::size_t i = 0; i < objectives_.size(); ++i) {
      put(decision.losses[i]);
      put(decision.rewards.empty() ? 0.0 : decision.rewards[i]);
      put(decision.mixture[i]);
    }
  }
  const auto bytes = std::as_bytes(std::span(numbers));
  return {bytes.begin(), bytes.end()};
}

Result<std::vector<CurriculumDecision>> Curriculum::decoded(std::span<const std::byte> bytes) const {
  constexpr std::size_t kHead = 2, kFixed = 3;
  const std::size_t each = kFixed + 3 * objectives_.size();
  std::vector<std::uint64_t> numbers(bytes.size() / sizeof(std::uint64_t));
  std::memcpy(numbers.data(), bytes.data(), numbers.size() * sizeof(std::uint64_t));
  if (numbers.size() < kHead || numbers[0] != objectives_.size() || (numbers.size() - kHead) % each != 0 ||
      (numbers.size() - kHead) / each != numbers[1] || bytes.size() % sizeof(std::uint64_t) != 0) {
    return fail(ErrorCode::kInvalidArgument, "[curriculum] {} bytes are no decisions on {} objectives", bytes.size(),
                objectives_.size());
  }
  const auto value = [&](std::size_t at) { return std::bit_cast<double>(numbers[at]); };
  std::vector<CurriculumDecision> decisions;
  for (std::size_t at = kHead; at < numbers.size(); at += each) {
    CurriculumDecision decision;
    decision.step = static_cast<std::int64_t>(numbers[at]);
    decision.drawn = numbers[at + 1] != 0;
    decision.expected = value(at + 2);
    for (std::size_t i = 0; i < objectives_.size(); ++i) {
      decision.losses.push_back(value(at + kFixed + 3 * i));
      if (!decisions.empty()) decision.rewards.push_back(value(at + kFixed + 3 * i + 1));
      decision.mixture.push_back(value(at + kFixed + 3 * i + 2));
    }
    decisions.push_back(std::move(decision));
  }
  return decisions;
}

std::vector<std::unique_ptr<StateProvider>> Curriculum::state_providers() const {
  std::vector<std::unique_ptr<StateProvider>> providers = network_.optimiser().providers("curriculum_");
  providers.push_back(std::make_unique<BlobStateProvider>(kProvider, [this] { return encoded(); }));
  providers.push_back(std::make_unique<BlobStateProvider>("curriculum_updates", [this] {
    const std::uint64_t updates[] = {static_cast<std::uint64_t>(network_.optimiser().steps())};
    const auto bytes = std::as_bytes(std::span(updates));
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  }));
  return providers;
}

Result<void> Curriculum::restore(const Checkpoint& checkpoint) {
  KRAIT_ASSIGN(const TensorView told, checkpoint.view(state_name(kProvider, BlobStateProvider::kBlob)));
  KRAIT_ASSIGN(std::vector<CurriculumDecision> decisions, decoded(told.bytes));
  KRAIT_ASSIGN(const TensorView counted, checkpoint.view(state_name("curriculum_updates", BlobStateProvider::kBlob)));
  std::uint64_t updates = 0;
  if (counted.bytes.size() != sizeof(updates)) {
    return fail(ErrorCode::kCorrupt, "[curriculum] a count of updates of {} bytes", counted.bytes.size());
  }
  std::memcpy(&updates, counted.bytes.data(), sizeof(updates));
  for (const auto& provider : network_.optimiser().providers("curriculum_")) {
    KRAIT_TRY(restore_tensors(checkpoint, *provider));
  }
  network_.optimiser().set_steps(static_cast<std::int64_t>(updates));
  decisions_ = std::move(decisions);
  return {};
}

}  // namespace krait::train
