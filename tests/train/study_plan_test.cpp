// What a configuration with [study] stands for.
#include "krait/train/study_plan.h"

#include <gtest/gtest.h>

#include "krait/train/task_evaluation.h"
#include "krait/train/train_config.h"

namespace krait::train {
namespace {

ConfigFile parsed(std::string_view text) {
  auto file = ConfigFile::parse(text, "study.toml");
  EXPECT_TRUE(file) << file.error().message;
  return *std::move(file);
}

constexpr std::string_view kStudy = R"(
[task]
name = "parity"
length = 8
[data]
batch = 4
[model]
width = 16
layers = 2
[output]
folder = "runs/x"
[study]
seeds = [3, 11]
[[study.variant]]
name = "small"
model.mixers = ["mamba2"]
model.width = 8
[[study.variant]]
name = "longer"
task.length = 40
train.steps = 500
evaluate.task = [{ length = 80 }]
)";

TEST(StudyPlan, HasARunForEachVariantAndSeed) {
  ConfigFile file = parsed(kStudy);
  ASSERT_TRUE(is_study(file));
  auto plan = expand_study(file);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->folder, "runs/x");
  EXPECT_EQ(plan->variants, (std::vector<std::string>{"small", "longer"}));
  EXPECT_EQ(plan->seeds, (std::vector<std::int64_t>{3, 11}));
  std::vector<std::string> names;
  for (const StudyRun& run : plan->runs) names.push_back(run.name());
  EXPECT_EQ(names, (std::vector<std::string>{"small/seed-3", "longer/seed-3", "small/seed-11", "longer/seed-11"}));
  // Whole, to the order: tables are merged, lists replaced, nothing of [study] and of other variants is left.
  EXPECT_EQ(
      plan->runs[2].config.json(),
      R"({"task":{"name":"parity","length":8},"data":{"batch":4,"seed":11},)"
      R"("model":{"width":8,"layers":2,"mixers":["mamba2"],"seed":11},"output":{"folder":"runs/x/small/seed-11"}})");
  EXPECT_EQ(plan->runs[1].config.json(),
            R"({"task":{"name":"parity","length":40},"data":{"batch":4,"seed":3},)"
            R"("model":{"width":16,"layers":2,"seed":3},"output":{"folder":"runs/x/longer/seed-3"},)"
            R"("train":{"steps":500},"evaluate":{"task":[{"length":80}]}})");
}

TEST(StudyPlan, RunsAreReadAsOrdinaryFiles) {
  ConfigFile file = parsed(kStudy);
  auto plan = expand_study(file);
  ASSERT_TRUE(plan);
  ConfigFile& config = plan->runs[3].config;
  EXPECT_FALSE(is_study(config));
  const TrainDataConfig data = read_train_data_config(config);
  EXPECT_EQ(data.loader.seed, 11u);
  EXPECT_EQ(data.loader.batch, 4);
  ASSERT_TRUE(data.task);
  EXPECT_EQ(data.task->values.at("length"), 40);
  // Nobody has asked for the rest yet: it is unknown, and said with the line of the variant that has it.
  const auto done = config.finish();
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().message.find("study.toml:7"), std::string::npos) << done.error().message;  // [model]
  EXPECT_NE(done.error().message.find("'model'"), std::string::npos) << done.error().message;
}

TEST(StudyPlan, WithoutVariantsIsOneUnderEachSeed) {
  ConfigFile file = parsed("[study]\nseeds = [0, 1, 2]\n[output]\nfolder = 'f'\n");
  const auto plan = expand_study(file);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->variants, std::vector<std::string>{"base"});
  EXPECT_EQ(plan->runs.size(), 3u);
  ConfigFile ordinary = parsed("[output]\nfolder = 'f'\n");
  EXPECT_FALSE(is_study(ordinary));
}

TEST(StudyPlan, SaysWhatIsWrong) {
  const auto refusal = [](std::string_view text) {
    ConfigFile file = parsed(std::string("output.folder = 'f'\n") + std::string(text));
    const auto plan = expand_study(file);
    return plan ? std::string() : plan.error().message;
  };
  const std::pair<const char*, const char*> cases[] = {
      {"[study]\n", "'seeds' in [study] is missing"},
      {"[study]\nseeds = []\n", "names none"},
      {"[study]\nseeds = [1, 2, 1]\n", "has 1 twice"},
      {"[study]\nseeds = [1, -1]\n", "has -1 in it"},
      {"[study]\nseeds = [1.5]\n", "a number in it, not a whole number"},
      {"[study]\nseeds = [1]\nvariants = 3\n", "'variants' in [study]"},
      {"[study]\nseeds = [1]\n[[study.variant]]\nmodel.width = 3\n", "'name' in [study.variant] is missing"},
      {"[study]\nseeds = [1]\n[[study.variant]]\nname = '../up'\n", "'../up'"},
      {"[study]\nseeds = [1]\n[[study.variant]]\nname = '.'\n", "names a folder"},
      {"[study]\nseeds = [1]\n[[study.variant]]\nname = 'a'\n[[study.variant]]\nname = 'a'\n", "another variant"},
      {"[study]\nseeds = [1]\n[[study.variant]]\nname = 'a'\nmodel.seed = 3\n", "'seed' in [study.variant.model]"},
      {"[study]\nseeds = [1]\n[[study.variant]]\nname = 'a'\noutput.folder = 'x'\n", "in [study.variant.output]"},
      {"[study]\nseeds = [1]\n[[study.variant]]\nname = 'a'\nstudy.seeds = [1]\n", "no setting of a run"},
      {"[data]\nseed = 1\n[study]\nseeds = [1]\n", "'seed' in [data] is told by 'seeds'"},
  };
  for (const auto& [text, words] : cases) {
    EXPECT_NE(refusal(text).find(words), std::string::npos) << text << refusal(text);
  }
  ConfigFile nowhere = parsed("[study]\nseeds = [1]\n");
  EXPECT_FALSE(expand_study(nowhere));
}

TEST(ConfigFile, IsChangedBeforeItIsRead) {
  ConfigFile file = parsed("a = 1\n[t]\nb = [1, 2]\nc = 'x'\n");
  ConfigFile copy = file.copy();
  copy.put("t.c", std::string("y"));
  copy.put("t.deep.d", true);
  copy.put("e", 2.5);
  copy.put("a.b", std::int64_t{3});  // a is no table, and stays
  copy.remove("nothing");
  EXPECT_EQ(copy.json(), R"({"a":1,"t":{"b":[1,2],"c":"y","deep":{"d":true}},"e":2.5})");
  EXPECT_EQ(file.json(), R"({"a":1,"t":{"b":[1,2],"c":"x"}})");
  copy.remove("t");
  EXPECT_EQ(copy.json(), R"({"a":1,"e":2.5})");
}

std::vector<TaskEvaluation> evaluations(ConfigFile& file) {
  const TrainDataConfig data = read_train_data_config(file);
  ConfigTable evaluate = file.table("evaluate");
  return read_task_evaluations(evaluate, data.task);
}

TEST(TaskEvaluation, IsTheTaskWithOtherParameters) {
  ConfigFile file = parsed(R"(
[task]
name = "associative_recall"
length = 64
keys = 32
[[evaluate.task]]
length = 256
pairs = 16
[[evaluate.task]]
name = "many"
examples = 7
pairs = 12
)");
  const auto read = evaluations(file);
  ASSERT_TRUE(file.finish()) << file.finish().error().message;
  ASSERT_EQ(read.size(), 2u);
  EXPECT_EQ(read[0].name, "length 256, pairs 16");
  EXPECT_EQ(read[0].examples, 256);
  EXPECT_EQ(read[0].task.values.at("length"), 256);
  EXPECT_EQ(read[0].task.values.at("keys"), 32);
  EXPECT_EQ(read[1].name, "many");
  EXPECT_EQ(read[1].examples, 7);
  EXPECT_EQ(read[1].task.values.at("length"), 64);
  EXPECT_EQ(read[1].task.values.at("pairs"), 12);
}

TEST(TaskEvaluation, SaysWhatIsWrong) {
  const auto refusal = [](std::string_view text) {
    ConfigFile file = parsed(text);
    evaluations(file);
    const auto done = file.finish();
    return done ? std::string() : done.error().message;
  };
  const std::string task = "[task]\nname = 'associative_recall'\n";
  const std::pair<std::string, const char*> cases[] = {
      {"[[evaluate.task]]\nlength = 4\n", "there is no [task]"},
      {task + "[[evaluate.task]]\nvalues = 65\n", "130 different tokens, but the task has 129"},
      {task + "[[evaluate.task]]\nlength = 8\n", "cannot be asked"},
      {task + "[[evaluate.task]]\nexamples = 3\n", "nothing differs"},
      {task + "[[evaluate.task]]\nlength = 128\n[[evaluate.task]]\nlength = 128\n", "another evaluation"},
      {task + "[[evaluate.task]]\nlength = 128\nwidth = 128\n", "nobody knows 'width'"},
      {task + "[[evaluate.task]]\nlength = 1\n", "not from 4"},
      {task + "[[evaluate.task]]\nlength = 128\nexamples = 0\n", "'examples'"},
  };
  for (const auto& [text, words] : cases) {
    EXPECT_NE(refusal(text).find(words), std::string::npos) << text << refusal(text);
  }
}

TEST(TaskEvaluation, ReadsNoMoreTokensAtOnceThanABatchOfTraining) {
  const auto rows = [](std::int64_t length) {
    const auto task = make_task("parity", {{"length", length}});
    return evaluation_rows(**task, 256);
  };
  EXPECT_EQ(rows(16), 16);
  EXPECT_EQ(rows(100), 2);
  EXPECT_EQ(rows(256), 1);
  EXPECT_EQ(rows(4096), 1);
}

}  // namespace
}  // namespace krait::train
