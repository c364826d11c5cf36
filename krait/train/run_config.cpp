#include "krait/train/run_config.h"

#include <array>

namespace krait::train {
namespace {

constexpr std::int64_t kMany = std::int64_t{1} << 40;

void read_model(ConfigTable table, TrainedModelOptions& model) {
  table.read("mixers", model.mixers);
  table.read("width", model.width, 1, 1 << 20);
  table.read("layers", model.layers, 1, 10000);
  table.read("expand", model.expand, 1, 64);
  table.read("states", model.states, 1, 1 << 16);
  table.read("head_width", model.head_width, 1, 1 << 16);
  table.read("groups", model.groups, 1, 1 << 16);
  table.read("conv_width", model.conv_width, 1, 16);
  table.read("window", model.window, 0, 1 << 24);
  table.read("rotary", model.rotary, 0, 1 << 16);
  table.read("eidetic", model.eidetic, 0, 1 << 20);
  table.read("fading", model.fading, fading_mixer_names());
  table.read("hashes", model.hashes, 1, 16);
  table.read("recent_keys", model.recent_keys, 0, 1 << 12);
  table.read("selected_keys", model.selected_keys, 0, 1 << 12);
  table.read("ranking_weight", model.ranking_weight, 0.0, 1e3);
  table.read("feed_forward", model.feed_forward, 0, 1 << 24);
  table.read("padding", model.padding, 1, 1 << 16);
  table.read("tied", model.tied);
  table.read("seed", model.seed);
}

void read_trainer(ConfigTable table, RunConfig& run) {
  Schedule& schedule = run.trainer.schedule;
  schedule.steps = 1000;
  table.require("steps");
  table.read("steps", schedule.steps, 1, kMany);
  table.read("rate", schedule.peak, 0.0, 1e3);
  table.read("last_rate", schedule.last, 0.0, 1e3);
  table.read("warm_up", schedule.warm_up, 0, kMany);
  table.read("decay_share", schedule.decay_share, 1e-6, 1.0);
  constexpr std::array<std::string_view, 3> kShapes = {"cosine", "wsd", "constant"};
  std::string shape(to_string(schedule.shape));
  table.read("schedule", shape, kShapes);
  if (const auto known = schedule_shape(shape)) schedule.shape = *known;
  OptimiserOptions& optimiser = run.trainer.optimiser;
  table.read("b1", optimiser.b1, 0.0, 1.0);
  table.read("b2", optimiser.b2, 0.0, 1.0);
  table.read("epsilon", optimiser.epsilon, 0.0, 1.0);
  table.read("weight_decay", optimiser.decay, 0.0, 1e3);
  table.read("clip", optimiser.clip, 0.0, 1e9);
  table.read("average", optimiser.average_decay, 0.0, 1.0);
  table.read("kernel_rate", optimiser.kernel_rate, 0.0, 1e3);
  table.read("accumulation", run.trainer.accumulation, 1, 1 << 20);
  table.read("z_loss", run.trainer.loss.z_factor, 0.0, 1e3);
  table.read("label_smoothing", run.trainer.loss.smoothing, 0.0, 0.99);
  table.read("bf16", run.bf16);
}

}  // namespace

Result<RunConfig> read_run_config(const std::filesystem::path& path) {
  KRAIT_ASSIGN(ConfigFile file, ConfigFile::open(path));
  return read_run_config(file, path.parent_path());
}

Result<RunConfig> read_run_config(ConfigFile& file, const std::filesystem::path& base) {
  RunConfig run;
  run.data = read_train_data_config(file);
  read_curriculum(file.table("curriculum"), run.curriculum);
  run.questions = read_questions(file.table("questions"));
  read_model(file.table("model"), run.model);
  run.initial = read_initial_parameters(file.table("model"), base);
  run.pretraining = read_pretraining(file.table("pretrain"));
  read_trainer(file.table("train"), run);
  ConfigTable evaluate = file.table("evaluate");
  evaluate.read("every", run.evaluate_every, 0, kMany);
  evaluate.read("batches", run.evaluate_batches, 0, kMany);
  evaluate.read("pieces", run.evaluate_pieces, 1, kMany);
  evaluate.read("test", run.test_batches, 0, kMany);
  evaluate.read("patience", run.patience, 0, kMany);
  run.task_evaluations = read_task_evaluations(evaluate, run.data.task);
  ConfigTable checkpoint = file.table("checkpoint");
  checkpoint.read("every", run.checkpoint_every, 0, kMany);
  std::int64_t keep = run.checkpoint.keep_last;
  checkpoint.read("keep", keep, 0, 1 << 20);
  run.checkpoint.keep_last = static_cast<int>(keep);
  bool skip = false;
  checkpoint.read("skip_when_busy", skip);
  if (skip) run.checkpoint.when_busy = WhenBusy::kSkip;
  checkpoint.read("stop_on_error", run.stop_when_not_saved);
  read_memory_config(file, run.memory);
  ConfigTable output = file.table("output");
  std::string folder, dtype = "f32";
  output.require("folder");
  output.read("folder", folder);
  constexpr std::array<std::string_view, 2> kTypes = {"f32", "bf16"};
  output.read("dtype", dtype, kTypes);
  run.exported.matrices = dtype == "bf16" ? DType::kBF16 : DType::kF32;
  KRAIT_TRY(file.finish());
  const auto resolve = [&](const std::string& name) { return name.empty() ? name : (base / name).string(); };
  run.folder = resolve(folder);
  run.checkpoint.folder = run.folder / "checkpoints";
  run.memory.folder = resolve(run.memory.folder);
  run.data.tokenizer = resolve(run.data.tokenizer);
  for (auto* files : {&run.questions.train, &run.questions.test}) {
    for (std::string& file_of_them : *files) file_of_them = resolve(file_of_them);
  }
  for (auto* sources : {&run.data.sources, &run.data.validation}) {
    for (TokenSourceConfig& source : *sources) {
      for (std::string& tokens : source.tokens) tokens = resolve(tokens);
    }
  }
  return run;
}

}  // namespace krait::train
