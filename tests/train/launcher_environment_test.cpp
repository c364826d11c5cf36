#include "krait/train/launcher_environment.h"

#include <gtest/gtest.h>

#include <map>

namespace krait::train {
namespace {

using Variables = std::map<std::string, std::string>;

Environment environment_of(Variables variables) {
  return [variables = std::move(variables)](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  };
}

ProcessPlace place_of(const Variables& variables) {
  const auto place = process_place(environment_of(variables));
  EXPECT_TRUE(place.has_value()) << place.error().message;
  EXPECT_TRUE(place->has_value());
  return place ? place->value_or(ProcessPlace{}) : ProcessPlace{};
}

std::string error_of(const Variables& variables) {
  const auto place = process_place(environment_of(variables));
  EXPECT_FALSE(place.has_value());
  return place ? "" : place.error().message;
}

bool names(const std::string& message, std::initializer_list<const char*> words) {
  for (const char* word : words) {
    if (message.find(word) == std::string::npos) return false;
  }
  return true;
}

const Variables kTorchrun = {
    {"RANK", "3"}, {"WORLD_SIZE", "8"}, {"LOCAL_RANK", "1"}, {"MASTER_ADDR", "tower"}, {"MASTER_PORT", "4242"}};

Variables with(Variables variables, const Variables& more) {
  for (const auto& [name, value] : more) variables[name] = value;
  return variables;
}

Variables without(Variables variables, const std::string& name) {
  variables.erase(name);
  return variables;
}

TEST(LauncherEnvironment, NobodyHasStartedAProcessByHand) {
  for (const Variables& variables : {Variables{}, Variables{{"SLURM_NTASKS", "4"}, {"SLURM_JOB_ID", "7"}},
                                     Variables{{"SLURM_PROCID", "0"}, {"MASTER_ADDR", "tower"}}}) {
    const auto place = process_place(environment_of(variables));
    ASSERT_TRUE(place.has_value()) << place.error().message;
    EXPECT_FALSE(place->has_value());
  }
}

TEST(LauncherEnvironment, ReadsTorchrun) {
  const ProcessPlace place = place_of(kTorchrun);
  EXPECT_EQ(place.launcher, "torchrun");
  EXPECT_EQ(place.rank, 3);
  EXPECT_EQ(place.ranks, 8);
  EXPECT_EQ(place.address, "tower");
  EXPECT_EQ(place.port, 4242);
  EXPECT_FALSE(place.store_is_served);
  EXPECT_EQ(place.attempt, 0);
  const ProcessPlace served =
      place_of(with(kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "True"}, {"TORCHELASTIC_RESTART_COUNT", "2"}}));
  EXPECT_TRUE(served.store_is_served);
  EXPECT_EQ(served.attempt, 2);
  EXPECT_FALSE(place_of(with(kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "False"}})).store_is_served);
}

TEST(LauncherEnvironment, ReadsOpenMpi) {
  Variables variables = {
      {"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}};
  const ProcessPlace here = place_of(variables);
  EXPECT_EQ(here.launcher, "Open MPI");
  EXPECT_EQ(here.rank, 1);
  EXPECT_EQ(here.ranks, 4);
  EXPECT_EQ(here.address, "127.0.0.1");
  EXPECT_EQ(here.port, 29500);
  // Of two machines it does not say where the first is.
  variables["OMPI_COMM_WORLD_LOCAL_SIZE"] = "2";
  EXPECT_TRUE(names(error_of(variables), {"MASTER_ADDR", "OMPI_COMM_WORLD_RANK"})) << error_of(variables);
  const ProcessPlace there = place_of(with(variables, {{"MASTER_ADDR", "10.0.0.1"}, {"MASTER_PORT", "99"}}));
  EXPECT_EQ(there.address, "10.0.0.1");
  EXPECT_EQ(there.port, 99);
}

TEST(LauncherEnvironment, ReadsPmi) {
  const ProcessPlace place = place_of({{"PMI_RANK", "2"}, {"PMI_SIZE", "3"}, {"MPI_LOCALNRANKS", "3"}});
  EXPECT_EQ(place.launcher, "PMI");
  EXPECT_EQ(place.rank, 2);
  EXPECT_EQ(place.ranks, 3);
  EXPECT_EQ(place.address, "127.0.0.1");
}

TEST(LauncherEnvironment, ReadsSlurm) {
  const Variables job = {{"SLURM_PROCID", "5"},
                         {"SLURM_NTASKS", "8"},
                         {"SLURM_JOB_NODELIST", "tower[03-05,07],fast1"},
                         {"SLURM_JOB_ID", "1234567"}};
  const ProcessPlace place = place_of(job);
  EXPECT_EQ(place.launcher, "Slurm");
  EXPECT_EQ(place.rank, 5);
  EXPECT_EQ(place.ranks, 8);
  EXPECT_EQ(place.address, "tower03");
  EXPECT_EQ(place.port, 20000 + 4567);
  // A step may have fewer tasks, on fewer hosts, than the job.
  const ProcessPlace step = place_of(with(job, {{"SLURM_STEP_NUM_TASKS", "6"}, {"SLURM_STEP_NODELIST", "fast1"}}));
  EXPECT_EQ(step.ranks, 6);
  EXPECT_EQ(step.address, "fast1");
  EXPECT_EQ(place_of(with(job, {{"MASTER_ADDR", "a"}, {"MASTER_PORT", "1"}})).address, "a");
  EXPECT_EQ(place_of(with(job, {{"MASTER_ADDR", "a"}, {"MASTER_PORT", "1"}})).port, 1);
  EXPECT_TRUE(names(error_of(without(job, "SLURM_JOB_NODELIST")), {"MASTER_ADDR", "SLURM_PROCID"}));
  EXPECT_TRUE(names(error_of(with(job, {{"SLURM_JOB_NODELIST", "tower["}})), {"SLURM_JOB_NODELIST", "tower["}));
}

// Alone there is nobody to find.
TEST(LauncherEnvironment, OneRankNeedsNoAddress) {
  const ProcessPlace place = place_of({{"RANK", "0"}, {"WORLD_SIZE", "1"}});
  EXPECT_EQ(place.ranks, 1);
  EXPECT_TRUE(place.address.empty());
}

TEST(LauncherEnvironment, OtherLaunchersInASlurmJobCount) {
  const Variables job = {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, {"SLURM_JOB_NODELIST", "a,b"}};
  EXPECT_EQ(place_of(with(job, kTorchrun)).rank, 3);
}

TEST(LauncherEnvironment, NamesWhatIsWrong) {
  const Variables mpi = {
      {"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "8"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "8"}};
  EXPECT_TRUE(names(error_of(with(kTorchrun, mpi)), {"RANK", "OMPI_COMM_WORLD_RANK", "rank 3 of 8", "rank 1 of 8"}))
      << error_of(with(kTorchrun, mpi));
  EXPECT_EQ(place_of(with(with(kTorchrun, mpi), {{"TORCHELASTIC_RUN_ID", "x"}})).rank, 3);
  EXPECT_EQ(place_of(with(with(kTorchrun, mpi), {{"RANK", "1"}})).launcher, "torchrun");
  EXPECT_TRUE(names(error_of(without(kTorchrun, "RANK")), {"WORLD_SIZE is set", "RANK is not"}));
  EXPECT_TRUE(names(error_of(without(kTorchrun, "WORLD_SIZE")), {"RANK is set", "WORLD_SIZE is not"}));
  EXPECT_TRUE(names(error_of(without(kTorchrun, "MASTER_ADDR")), {"MASTER_ADDR is not"}));
  EXPECT_TRUE(names(error_of(without(kTorchrun, "MASTER_PORT")), {"MASTER_PORT is not"}));
  EXPECT_TRUE(names(error_of(with(kTorchrun, {{"RANK", "8"}})), {"RANK is 8", "WORLD_SIZE is 8"}));
  for (const char* wrong : {"two", "", "-1", "1.5", "1 ", "99999999999999999999"}) {
    EXPECT_TRUE(names(error_of(with(kTorchrun, {{"RANK", wrong}})), {"RANK is", wrong})) << wrong;
  }
  for (const char* wrong : {"0", "65536", "http"}) {
    EXPECT_TRUE(names(error_of(with(kTorchrun, {{"MASTER_PORT", wrong}})), {"MASTER_PORT is", wrong})) << wrong;
  }
}

TEST(LauncherEnvironment, ReadsListsOfHosts) {
  const std::map<std::string, std::string> first = {{"tower", "tower"},
                                                    {"tower,b", "tower"},
                                                    {"tower[03-05,07],fast1", "tower03"},
                                                    {"tower[7]", "tower7"},
                                                    {"tower[7,9]", "tower7"},
                                                    {"rack[1-2]node[004-008]", "rack1node004"},
                                                    {"a-b[10-12].site.org,c", "a-b10.site.org"},
                                                    {"10.0.0.1", "10.0.0.1"}};
  for (const auto& [list, host] : first) {
    const auto read = first_host(list);
    ASSERT_TRUE(read.has_value()) << read.error().message;
    EXPECT_EQ(*read, host);
  }
  for (const char* wrong : {"", ",a", "tower[", "tower[]", "tower[,3]", "tower[3", "tower]3", "a b", "["}) {
    EXPECT_FALSE(first_host(wrong).has_value()) << wrong;
  }
}

}  // namespace
}  // namespace krait::train
