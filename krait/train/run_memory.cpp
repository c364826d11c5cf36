#include "krait/train/run_memory.h"

namespace krait::train {

Result<MemoryPlan> RunMemory::plan(const RunConfig& config, BatchSource& source) {
  const auto place = source.place();
  KRAIT_ASSIGN(const Batch first, source.next());
  KRAIT_TRY(source.seek(place));
  return plan_memory(config, first);
}

Result<std::unique_ptr<RunMemory>> RunMemory::open(const RunConfig& config, BatchSource& source) {
  const MemoryOptions& options = config.memory;
  std::unique_ptr<RunMemory> memory(new RunMemory());
  KRAIT_ASSIGN(memory->plan_, plan(config, source));
  const std::filesystem::path folder = options.folder.empty() ? config.folder : options.folder;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  KRAIT_ASSIGN(memory->state_,
               OffloadedState::create({.file = {.folder = folder, .memory_bytes = memory->plan_.buffers},
                                       .parameters = options.parameters,
                                       .average = config.trainer.optimiser.average_decay > 0.0}));
  OffloadedState& state = *memory->state_;
  KRAIT_ASSIGN(memory->model_,
               make_model(config.model, [&](const torch::nn::Module& module, const std::string& prefix) {
                 state.adopt(module, prefix);
               }));
  nn::LanguageModel& model = *memory->model_;
  state.attach(model);
  if (!options.activations) return memory;
  const auto place = source.place();
  KRAIT_ASSIGN(const Batch first, source.next());
  KRAIT_TRY(source.seek(place));
  KRAIT_ASSIGN(LayerInputFile inputs, LayerInputFile::reserve(state.file(), config.model.layers,
                                                              first.batch * first.length, config.model.width));
  memory->inputs_.emplace(std::move(inputs));
  if (!options.parameters) memory->gradients_ = std::make_unique<GradientTensors>(model);
  GradientSink& sink = options.parameters ? static_cast<GradientSink&>(state) : *memory->gradients_;
  memory->layered_.emplace(model, model.keeper(), *memory->inputs_, sink);
  return memory;
}

TrainerMemory RunMemory::for_trainer() { return {.state = state_, .layered = layered_ ? &*layered_ : nullptr}; }

}  // namespace krait::train
