// Ranks that are threads of one process: Gloo does not mind.
#include "krait/train/process_group.h"

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <thread>

#include "krait/train/gradient_exchange.h"
#include "krait/train/random_stream.h"
#include "tests/train/trainer_testing.h"

namespace krait::train {
namespace {

using tests::SmallRun;

// Calls `body` with each rank's group at the same time.
void in_ranks(std::int64_t ranks, const std::function<void(ProcessGroup&)>& body,
              std::chrono::milliseconds timeout = std::chrono::seconds(60)) {
  const auto store = RendezvousStore::serve();
  ASSERT_TRUE(store.has_value()) << store.error().message;
  std::vector<std::thread> threads;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      const auto group = ProcessGroup::join({.launcher = "test",
                                             .rank = rank,
                                             .ranks = ranks,
                                             .address = "127.0.0.1",
                                             .port = (*store)->port(),
                                             .store_is_served = true},
                                            {.timeout = timeout});
      ASSERT_TRUE(group.has_value()) << group.error().message;
      body(**group);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

std::vector<at::Tensor> random_tensors(std::uint64_t seed) {
  std::vector<at::Tensor> tensors;
  // Smaller than a bucket, larger than two, and none at all.
  for (const std::int64_t count : {7, 1'500'000, 0, 1, 1'048'576, 3'000'001}) {
    at::Tensor tensor = at::empty({count}, at::kFloat);
    Random random = random_stream(seed, {stream_name("tensors"), tensors.size()});
    for (std::int64_t i = 0; i < count; ++i) {
      tensor.data_ptr<float>()[i] = static_cast<float>(static_cast<double>(random.next()) / 0x1p63 - 1.0);
    }
    tensors.push_back(tensor);
  }
  return tensors;
}

TEST(ProcessGroup, AddsUpTensorsInTheSameOrderEverywhereAndAlways) {
  constexpr std::int64_t kRanks = 4;
  std::vector<std::vector<at::Tensor>> sums(kRanks);
  in_ranks(kRanks, [&](ProcessGroup& group) {
    std::vector<at::Tensor> again;
    for (const int round : {0, 1}) {
      std::vector<at::Tensor> tensors = random_tensors(static_cast<std::uint64_t>(group.rank()));
      const auto done = group.sum(std::span<const at::Tensor>(tensors));
      ASSERT_TRUE(done.has_value()) << done.error().message;
      (round == 0 ? sums[static_cast<std::size_t>(group.rank())] : again) = tensors;
    }
    for (std::size_t i = 0; i < again.size(); ++i) {
      EXPECT_TRUE(at::equal(again[i], sums[static_cast<std::size_t>(group.rank())][i])) << i;
    }
  });
  const std::size_t tensors = sums[0].size();
  for (std::size_t i = 0; i < tensors; ++i) {
    at::Tensor exact, magnitude;
    for (std::uint64_t rank = 0; rank < kRanks; ++rank) {
      const at::Tensor part = random_tensors(rank)[i].to(at::kDouble);
      exact = exact.defined() ? exact + part : part;
      magnitude = magnitude.defined() ? magnitude + part.abs() : part.abs();
      EXPECT_TRUE(at::equal(sums[rank][i], sums[0][i])) << rank << ' ' << i;
    }
    if (exact.numel() == 0) continue;
    // A sum of four has three additions, each of which rounds.
    const at::Tensor error = (sums[0][i].to(at::kDouble) - exact).abs();
    EXPECT_TRUE(error.le(magnitude * 3 * 0x1p-24).all().item<bool>()) << i;
  }
}

TEST(ProcessGroup, AddsUpNumbersAndTellsWhatRankZeroHas) {
  in_ranks(3, [](ProcessGroup& group) {
    const auto rank = static_cast<double>(group.rank());
    std::vector<double> numbers = {rank, 0x1p52, -2.5 * rank};
    ASSERT_TRUE(group.sum(numbers).has_value());
    EXPECT_EQ(numbers, (std::vector<double>{3.0, 3 * 0x1p52, -7.5}));
    std::vector<std::byte> bytes(group.is_first() ? 1000 : 3, static_cast<std::byte>(7 + group.rank()));
    ASSERT_TRUE(group.broadcast(bytes).has_value());
    EXPECT_EQ(bytes, std::vector<std::byte>(1000, std::byte{7}));
    bytes.assign(group.is_first() ? 0 : 5, std::byte{1});
    ASSERT_TRUE(group.broadcast(bytes).has_value());
    EXPECT_TRUE(bytes.empty());
    EXPECT_TRUE(group.wait_for_all().has_value());
    EXPECT_EQ(group.peers().size(), 3U);
  });
}

TEST(ProcessGroup, NamesRanksThatHaveSomethingElse) {
  in_ranks(3, [](ProcessGroup& group) {
    EXPECT_TRUE(group.check_alike("words", {1, 0xffffffffffffffff}).has_value());
    const auto other = group.check_alike("parameters", {0, group.rank() == 2 ? 1U : 0U});
    ASSERT_FALSE(other.has_value());
    EXPECT_EQ(other.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(other.error().message.find("rank 2 (process"), std::string::npos) << other.error().message;
    EXPECT_EQ(other.error().message.find("rank 1 (process"), std::string::npos) << other.error().message;
  });
}

TEST(ProcessGroup, SaysWhyARankHasLeft) {
  in_ranks(3, [](ProcessGroup& group) {
    ASSERT_TRUE(group.wait_for_all().has_value());
    if (group.rank() == 1) return group.leave("[data] the shard is damaged");
    std::vector<double> numbers = {1.0};
    const auto done = group.sum(numbers);
    ASSERT_FALSE(done.has_value());
    EXPECT_NE(done.error().message.find("rank 1 (process"), std::string::npos) << done.error().message;
    EXPECT_NE(done.error().message.find("the shard is damaged"), std::string::npos) << done.error().message;
    EXPECT_FALSE(group.sum(numbers).has_value()) << "a broken group stays broken";
  });
}

TEST(ProcessGroup, NamesRanksThatDoNotCome) {
  const auto store = RendezvousStore::serve();
  ASSERT_TRUE(store.has_value()) << store.error().message;
  const ProcessPlace place{.launcher = "Slurm",
                           .rank = 1,
                           .ranks = 4,
                           .address = "127.0.0.1",
                           .port = (*store)->port(),
                           .store_is_served = true};
  const auto alone = ProcessGroup::join(place, {.timeout = std::chrono::seconds(1)});
  ASSERT_FALSE(alone.has_value());
  EXPECT_NE(alone.error().message.find("rank 0, 2, 3 of 4"), std::string::npos) << alone.error().message;
  const auto twice = ProcessGroup::join(place, {.timeout = std::chrono::seconds(1)});
  ASSERT_FALSE(twice.has_value());
  EXPECT_NE(twice.error().message.find("two of rank 1"), std::string::npos) << twice.error().message;
}

TEST(ProcessGroup, NamesTheStoreThatIsNotThere) {
  ProcessPlace place{.launcher = "torchrun", .rank = 1, .ranks = 2, .address = "127.0.0.1", .port = 1};
  const auto nobody = ProcessGroup::join(place, {.timeout = std::chrono::seconds(1)});
  ASSERT_FALSE(nobody.has_value());
  EXPECT_NE(nobody.error().message.find("127.0.0.1:1"), std::string::npos) << nobody.error().message;
  place.address = "no.such.host.invalid";
  const auto nowhere = ProcessGroup::join(place, {.timeout = std::chrono::seconds(1)});
  ASSERT_FALSE(nowhere.has_value());
  EXPECT_NE(nowhere.error().message.find("no.such.host.invalid"), std::string::npos) << nowhere.error().message;
  setenv("GLOO_SOCKET_IFNAME", "lo,nosuch0", 1);
  const auto without = ProcessGroup::join(place, {.timeout = std::chrono::seconds(1)});
  unsetenv("GLOO_SOCKET_IFNAME");
  ASSERT_FALSE(without.has_value());
  EXPECT_NE(without.error().message.find("'nosuch0'"), std::string::npos) << without.error().message;
  EXPECT_NE(without.error().message.find("lo"), std::string::npos) << without.error().message;
}

TEST(ProcessGroup, WorksOverTheInterfaceThatIsNamed) {
  setenv("GLOO_SOCKET_IFNAME", "lo", 1);
  in_ranks(2, [](ProcessGroup& group) {
    EXPECT_EQ(group.peers()[1].address, "127.0.0.1");
    std::vector<double> numbers = {1.0};
    ASSERT_TRUE(group.sum(numbers).has_value());
    EXPECT_EQ(numbers[0], 2.0);
  });
  unsetenv("GLOO_SOCKET_IFNAME");
}

TEST(ProcessGroup, RefusesConfigurationsThatDiffer) {
  const auto store = RendezvousStore::serve();
  ASSERT_TRUE(store.has_value()) << store.error().message;
  std::vector<std::thread> threads;
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      const auto group = ProcessGroup::join({.launcher = "test",
                                             .rank = rank,
                                             .ranks = 2,
                                             .address = "127.0.0.1",
                                             .port = (*store)->port(),
                                             .store_is_served = true},
                                            {.timeout = std::chrono::seconds(30),
                                             .alike = {{"the version", "1"}, {"the hash", rank == 0 ? "aa" : "bb"}}});
      ASSERT_FALSE(group.has_value());
      for (const char* words : {"the hash is aa at rank 0", "bb at rank 1"}) {
        EXPECT_NE(group.error().message.find(words), std::string::npos) << group.error().message;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(ShareOfCores, IsTheCoresDividedByThoseWhoUseThem) {
  const auto peers = [](std::vector<std::pair<std::string, std::vector<int>>> places) {
    std::vector<Peer> result;
    for (auto& [machine, cores] : places) {
      result.push_back({.rank = std::ssize(result), .machine = machine, .cores = cores});
    }
    return result;
  };
  const std::vector<int> eight = {0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(share_of_cores(peers({{"a", eight}, {"b", eight}}), 0), 8);
  EXPECT_EQ(share_of_cores(peers({{"a", eight}, {"a", eight}}), 1), 4);
  EXPECT_EQ(share_of_cores(peers({{"a", eight}, {"a", eight}, {"a", eight}}), 1), 2);
  // A launcher that binds its processes has divided already.
  EXPECT_EQ(share_of_cores(peers({{"a", {0, 1, 2, 3}}, {"a", {4, 5, 6, 7}}}), 1), 4);
  // More ranks than cores; three thirds of one core.
  EXPECT_EQ(share_of_cores(peers({{"a", {0}}, {"a", {0}}, {"a", {0}}}), 2), 1);
  EXPECT_EQ(share_of_cores(peers({{"a", {0, 1, 2}}, {"a", {0, 1, 2}}, {"a", {0, 1, 2}}}), 2), 1);
}

// Examples of a task, of which each rank has its part, with fewer labels than there are: rank 2 has none at all.
class UnevenSource final : public BatchSource {
 public:
  UnevenSource(std::shared_ptr<const Task> task, std::int64_t rank, std::int64_t ranks)
      : task_(std::move(task)), rank_(rank), ranks_(ranks) {}
  Result<Batch> next() override {
    const std::int64_t count = kExamples / ranks_;
    Batch batch = task_batch(*task_, 1, static_cast<std::uint64_t>(rank_ * count), count);
    for (std::int64_t example = 0; example < count; ++example) {
      const std::int64_t index = rank_ * count + example;
      if (index % 3 == 0 && index / 2 != 2) continue;
      const auto row = batch.labels.begin() + example * batch.length;
      std::fill(row, row + batch.length, kNoLabel);
    }
    return batch;
  }
  std::vector<std::uint64_t> place() const override { return {}; }
  Result<void> seek(std::span<const std::uint64_t>) override { return {}; }
  static constexpr std::int64_t kExamples = 8;

 private:
  std::shared_ptr<const Task> task_;
  std::int64_t rank_, ranks_;
};

// Keeps what the optimiser would get.
class Watching final : public StepReduction {
 public:
  explicit Watching(StepReduction* inner) : inner_(inner) {}
  Result<void> sum_counts(StepReport& report) override {
    return inner_ == nullptr ? Result<void>() : inner_->sum_counts(report);
  }
  Result<void> sum_gradients(torch::nn::Module& model, StepReport& report) override {
    if (inner_ != nullptr) KRAIT_TRY(inner_->sum_gradients(model, report));
    for (const at::Tensor& parameter : model.parameters()) {
      const at::Tensor& gradient = parameter.grad();
      all.push_back((gradient.defined() ? gradient : at::zeros_like(parameter)).to(at::kDouble).flatten());
    }
    return {};
  }
  at::Tensor gradients() const { return at::cat(all); }

 private:
  StepReduction* inner_;
  std::vector<at::Tensor> all;
};

TEST(GradientExchange, IsAsCloseToTheGradientOfAllLabelsAsOneProcessIs) {
  constexpr std::int64_t kRanks = 4;
  const auto prepare = [](SmallRun& run, UnevenSource& source) {
    TrainerOptions options;
    options.schedule = {.peak = 1e-2, .warm_up = 2, .steps = 20};
    run.trainer = std::make_unique<Trainer>(*run.model, source, options);
  };
  SmallRun one("mamba2");
  UnevenSource all_examples(one.task, 0, 1);
  prepare(one, all_examples);
  // The exact one: the same in double.
  SmallRun wide("mamba2");
  wide.model->to(at::kDouble);
  const Batch batch = *all_examples.next();
  wide.model->loss(batch.ids, batch.labels, model_batch(batch), {}, {}, static_cast<double>(batch.labelled()))
      .loss.backward();
  Watching exact(nullptr);
  StepReport ignored;
  ASSERT_TRUE(exact.sum_gradients(*wide.model, ignored).has_value());

  Watching alone(nullptr);
  one.trainer->set_reduction(&alone);
  const auto expected = one.trainer->step();
  ASSERT_TRUE(expected.has_value());
  const double scale = exact.gradients().norm().item<double>();
  const double own_error = (alone.gradients() - exact.gradients()).norm().item<double>();
  ASSERT_LT(own_error, 1e-4 * scale) << "the exact gradient is none of this model";

  std::vector<std::vector<float>> parameters(kRanks);
  in_ranks(kRanks, [&](ProcessGroup& group) {
    SmallRun run("mamba2");
    UnevenSource source(run.task, group.rank(), kRanks);
    prepare(run, source);
    GradientExchange exchange(group, [&] { return group.rank() == 3; });
    Watching watching(&exchange);
    run.trainer->set_reduction(&watching);
    const auto step = run.trainer->step();
    ASSERT_TRUE(step.has_value()) << step.error().message;
    EXPECT_EQ(step->tokens, expected->tokens);
    EXPECT_EQ(step->labels, expected->labels);
    EXPECT_TRUE(exchange.stops()) << "one of them wanted to";
    // Sums of as many positive terms as there are rows, in another order.
    EXPECT_NEAR(step->loss, expected->loss, static_cast<double>(batch.ids.size()) * 0x1p-24 * expected->loss);
    const double error = (watching.gradients() - exact.gradients()).norm().item<double>();
    // Other sums round otherwise, and not worse: the additions are the same ones.
    EXPECT_LE(error, 2 * std::max(own_error, 0x1p-24 * scale));
    EXPECT_TRUE(check_state(*run.trainer, group).has_value());
    parameters[static_cast<std::size_t>(group.rank())] = run.parameters();
  });
  for (const auto& of : parameters) EXPECT_EQ(of, parameters[0]);
}

TEST(GradientExchange, LeavesEverythingAsItWasOnAllWhereOneGradientIsNotFinite) {
  in_ranks(2, [](ProcessGroup& group) {
    SmallRun run("mamba2");
    run.losses(1);
    GradientExchange exchange(group, nullptr);
    run.trainer->set_reduction(&exchange);
    ASSERT_TRUE(run.trainer->step()->taken);
    ASSERT_TRUE(check_state(*run.trainer, group).has_value());
    const std::vector<float> before = run.parameters();
    if (group.rank() == 1) {
      // Poisons the loss here, and nothing that the other rank computes.
      const at::NoGradGuard guard;
      run.model->parameters().back().flatten()[0] = std::nanf("");
    }
    const auto step = run.trainer->step();
    ASSERT_TRUE(step.has_value());
    EXPECT_FALSE(step->taken);
    EXPECT_FALSE(std::isfinite(step->gradient_norm));
    if (group.rank() == 0) {
      EXPECT_EQ(run.parameters(), before);
    }
    EXPECT_FALSE(check_state(*run.trainer, group).has_value());
    // Rank 0's are good, and become the other's.
    ASSERT_TRUE(share_state(*run.trainer, group).has_value());
    EXPECT_TRUE(check_state(*run.trainer, group).has_value());
    EXPECT_EQ(run.parameters(), before);
  });
}

TEST(GradientExchange, TakesAnEqualPartOfTheBatch) {
  in_ranks(3, [](ProcessGroup& group) {
    DataLoaderOptions loader{.batch = 12};
    ASSERT_TRUE(take_part(loader, group).has_value());
    EXPECT_EQ(loader.batch, 4);
    EXPECT_EQ(loader.rank, group.rank());
    EXPECT_EQ(loader.ranks, 3);
    loader.batch = 8;
    const auto uneven = take_part(loader, group);
    ASSERT_FALSE(uneven.has_value());
    EXPECT_NE(uneven.error().message.find("batch = 8"), std::string::npos) << uneven.error().message;
    const auto told = share_outcome(
        group.is_first() ? Result<void>(fail(ErrorCode::kCorrupt, "no checkpoint is whole")) : Result<void>(), group);
    ASSERT_FALSE(told.has_value());
    EXPECT_EQ(told.error().code, ErrorCode::kCorrupt);
    EXPECT_EQ(told.error().message, "no checkpoint is whole");
    EXPECT_TRUE(share_outcome({}, group).has_value());
  });
}

}  // namespace
}  // namespace krait::train
