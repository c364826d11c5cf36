#include "krait/train/memory_plan.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "krait/train/layered_gradients.h"
#include "krait/train/offloaded_state.h"
#include "krait/train/resident_memory.h"
#include "krait/train/tensor_memory.h"

namespace krait::train {
namespace {

// What of a limit is left for what nobody counts: stacks, the allocator's own, pages of files that are being read.
constexpr std::uint64_t kUncountedShare = 32;

std::string mebibytes(std::uint64_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / 0x1p20); }

class DroppedGradients final : public GradientSink {
 public:
  void add(std::size_t, at::Tensor) override {}
  void add_first_part(std::size_t, at::Tensor) override {}
};

class KeptInputs final : public LayerInputs {
 public:
  void put(std::int64_t layer, const nn::LayerStream& stream) override { kept_[layer] = stream; }
  nn::LayerStream get(std::int64_t layer) override { return kept_[layer]; }
  void drop(std::int64_t layer) override { kept_.erase(layer); }

 private:
  std::map<std::int64_t, nn::LayerStream> kept_;
};

Batch first_sequences(const Batch& batch, std::int64_t count) {
  Batch result{.batch = count, .length = batch.length, .ids = batch.ids, .labels = batch.labels, .segments = {}};
  const std::int64_t rows = count * batch.length;
  result.ids.resize(static_cast<std::size_t>(rows));
  result.labels.resize(static_cast<std::size_t>(rows));
  for (const BatchSegment& segment : batch.segments) {
    if (segment.first < rows) result.segments.push_back(segment);
  }
  return result;
}

// What a step of the whole batch takes beyond what is there, from one and two sequences of it.
std::uint64_t growth_of_batch(const Batch& first, const std::function<void(const Batch&)>& step) {
  const auto of = [&](std::int64_t sequences) {
    const Batch batch = first_sequences(first, std::min(sequences, first.batch));
    return resident_growth([&] { step(batch); });
  };
  of(1);  // what is made once, for all that follow
  const std::uint64_t one = of(1);
  if (first.batch == 1) return one;
  const std::uint64_t two = of(2);
  const std::uint64_t more = two > one ? two - one : 0;
  return two + static_cast<std::uint64_t>(first.batch - 2) * more;
}

// The bytes of each parameter, part by part, and what a step takes.
struct Rehearsal {
  std::map<std::string, std::vector<std::uint64_t>> layers;  // of each kind of mixer
  std::vector<std::uint64_t> embedding, end;
  std::uint64_t working = 0;
};

std::uint64_t sum(const std::vector<std::uint64_t>& all) {
  std::uint64_t sum = 0;
  for (const std::uint64_t one : all) sum += one;
  return sum;
}

void step_layered(nn::LanguageModel& model, const Batch& batch, const nn::TokenLossOptions& loss) {
  DroppedGradients sink;
  KeptInputs inputs;
  LayeredGradients(model, nullptr, inputs, sink).run(batch, step_batch(batch, 1.0, 0), loss, 1.0);
}

void step_whole(nn::LanguageModel& model, const Batch& batch, const nn::TokenLossOptions& loss) {
  model.loss(batch.ids, batch.labels, step_batch(batch, 1.0, 0), {}, loss, 1.0).loss.backward();
  for (at::Tensor& parameter : model.parameters()) parameter.mutable_grad() = at::Tensor();
}

void step_of_task(nn::LanguageModel& model, const Batch& batch) {
  const at::NoGradGuard guard;
  std::ignore = model.logits(batch.ids, model_batch(batch)).argmax(1).to(at::kInt);
}

Result<Rehearsal> rehearse(const RunConfig& config, const Batch& first) {
  Rehearsal result;
  const nn::TokenLossOptions& loss = config.trainer.loss;
  const std::uint64_t stream_bytes =
      static_cast<std::uint64_t>(first.batch * first.length * config.model.width) * sizeof(float);
  for (const std::string& kind : std::set(config.model.mixers.begin(), config.model.mixers.end())) {
    TrainedModelOptions options = config.model;
    options.mixers = {kind};
    options.layers = 2;
    KRAIT_ASSIGN(const auto two, make_model(options));
    auto& layer = result.layers[kind];
    result.embedding.clear();
    result.end.clear();
    for (const auto& parameter : two->named_parameters()) {
      const auto bytes = static_cast<std::uint64_t>(parameter.value().numel()) * sizeof(float);
      const std::int64_t part = two->part_of(parameter.key());
      if (part == 0) result.embedding.push_back(bytes);
      if (part == 1) layer.push_back(bytes);
      if (part == 3) result.end.push_back(bytes);
    }
    if (config.data.task || !config.questions.train.empty()) {
      result.working =
          std::max(result.working, growth_of_batch(first, [&](const Batch& batch) { step_of_task(*two, batch); }));
    }
    if (config.memory.activations) {
      // What went into the second layer will be in the file's buffers instead.
      const std::uint64_t peak = growth_of_batch(first, [&](const Batch& batch) { step_layered(*two, batch, loss); });
      result.working = std::max(result.working, peak - std::min(peak, 2 * stream_bytes));
      continue;
    }
    // All layers' activations at once, or the gradients in their places.
    options.layers = 1;
    KRAIT_ASSIGN(const auto one, make_model(options));
    const auto whole = [&](nn::LanguageModel& model) {
      return growth_of_batch(first, [&](const Batch& batch) { step_whole(model, batch, loss); });
    };
    const std::uint64_t of_one = whole(*one), of_two = whole(*two);
    const std::uint64_t more = std::max(of_two - std::min(of_one, of_two), sum(layer));
    result.working = std::max(result.working, of_one + static_cast<std::uint64_t>(config.model.layers - 1) * more);
  }
  return result;
}

// The buffers that a run cannot do without, and those with which reading and writing go on beside it.
struct Buffers {
  std::uint64_t least = 0, good = 0;
};

Buffers buffers_for(const RunConfig& config, const std::vector<std::vector<std::uint64_t>>& parts,
                    std::uint64_t stream_bytes) {
  const MemoryOptions& memory = config.memory;
  const auto pages = [](const std::vector<std::uint64_t>& part) {
    std::uint64_t all = 0;
    for (const std::uint64_t bytes : part) all += SizeClassPool::class_bytes(bytes);
    return all;
  };
  std::uint64_t largest = 0, part = 0, two_parts = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    for (const std::uint64_t bytes : parts[i]) largest = std::max(largest, SizeClassPool::class_bytes(bytes));
    part = std::max(part, pages(parts[i]));
    if (i > 0) two_parts = std::max(two_parts, pages(parts[i - 1]) + pages(parts[i]));
  }
  const std::uint64_t stretch =
      std::min<std::uint64_t>(largest, static_cast<std::uint64_t>(OffloadedState::kStretch) * sizeof(float));
  const bool average = config.trainer.optimiser.average_decay > 0.0;
  const std::uint64_t kinds = (average ? 3U : 2U) + (memory.parameters ? 1U : 0U);
  const std::uint64_t stream = memory.activations ? SizeClassPool::class_bytes(stream_bytes) : 0;
  if (!memory.parameters) part = two_parts = largest = 0;
  Buffers result;
  result.least = std::max(part + 2 * stream + stretch, largest + kinds * stretch);
  result.good = std::max(two_parts + 4 * stream + 4 * stretch, 2 * largest + 3 * kinds * stretch);
  return result;
}

}  // namespace

std::string MemoryPlan::text() const {
  return fmt::format("memory {} (program {}, state {}, a step {}, buffers {}){}; state {}, file {}",
                     mebibytes(predicted()), mebibytes(program), mebibytes(held), mebibytes(working),
                     mebibytes(buffers), limit > 0 ? " of " + mebibytes(limit) : "", mebibytes(state), mebibytes(file));
}

Result<MemoryPlan> plan_memory(const RunConfig& config, const Batch& first) {
  set_tensor_memory_kept(false);
  return_freed_memory();
  const MemoryOptions& memory = config.memory;
  KRAIT_ASSIGN(const Rehearsal rehearsal, rehearse(config, first));
  return_freed_memory();

  std::vector<std::vector<std::uint64_t>> parts = {rehearsal.embedding};
  for (std::int64_t i = 0; i < config.model.layers; ++i) {
    const auto kind = static_cast<std::size_t>(i) % config.model.mixers.size();
    parts.push_back(rehearsal.layers.at(config.model.mixers[kind]));
  }
  parts.push_back(rehearsal.end);
  std::uint64_t values = 0;
  for (const auto& part : parts) values += sum(part);
  if (config.model.tied) parts.back().push_back(rehearsal.embedding.front());  // is read again there
  const bool average = config.trainer.optimiser.average_decay > 0.0;
  const std::uint64_t moments = values * (average ? 3 : 2);
  const std::uint64_t stream_bytes =
      static_cast<std::uint64_t>(first.batch * first.length * config.model.width) * sizeof(float);

  MemoryPlan plan{.program = resident_bytes(), .state = 2 * values + moments, .limit = memory.limit};
  plan.working = rehearsal.working;
  // Without layers of their own, gradients are part of what a step makes.
  plan.held = memory.parameters ? 0 : (memory.activations ? 2 : 1) * values;
  plan.file = moments + (memory.parameters ? 2 * values : 0) +
              (memory.activations ? 2 * static_cast<std::uint64_t>(config.model.layers - 1) * stream_bytes : 0);
  const Buffers buffers = buffers_for(config, parts, stream_bytes);
  plan.buffers = std::min(buffers.good, std::max(buffers.least, plan.file));
  if (memory.limit == 0) return plan;
  const std::uint64_t given = memory.limit - memory.limit / kUncountedShare;
  plan.buffers = buffers.least;
  if (plan.predicted() > given) {
    return fail(ErrorCode::kResourceExhausted,
                "[memory] a limit of {} cannot be held: the program itself has {}, {} of the run's state of {} stay in "
                "memory, a step makes and drops {}, and the file wants buffers of {}; {} would do{}",
                mebibytes(memory.limit), mebibytes(plan.program), mebibytes(plan.held), mebibytes(plan.state),
                mebibytes(plan.working), mebibytes(plan.buffers),
                mebibytes(plan.predicted() + plan.predicted() / (kUncountedShare - 1)),
                memory.parameters ? ", and so may a smaller batch" : ", and so may to offload more");
  }
  plan.buffers = std::min(given - (plan.predicted() - plan.buffers), std::max(buffers.least, plan.file));
  return plan;
}

}  // namespace krait::train
