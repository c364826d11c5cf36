// Whatever happens to a sequence on its way, it says what it says alone: strangers in its steps, being set aside for
// others, its state on the disk and back, its state saved to bytes in the middle and restored, and more sequences than
// memory has states for.
#include <gtest/gtest.h>

#include <utility>

#include "krait/runtime/open_model.h"
#include "krait/runtime/prompt.h"
#include "krait/runtime/state_saving.h"
#include "tests/server/generation_testing.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/tiny_models.h"

namespace krait::server {
namespace {

using tests::Alone;
using tests::copy_of;
using tests::crowded;
using tests::exact_for;
using tests::expect_alike;
using tests::ParkingFolder;
using tests::Recorder;
using tests::request_of;
using tests::say_alone;
using tests::send;

constexpr std::int64_t kChunk = 128;

// Out of memory and back, through the bytes that a client would have. Others use all the memory there is: its turn
// comes.
runtime::State through_bytes(runtime::State state, runtime::Engine& engine, const formats::StateIdentity& identity) {
  const runtime::StateSections sections(engine, identity, state, {});
  const auto bytes = formats::encode_state(sections.description(), sections.sources(), {1});
  if (!bytes) throw std::runtime_error(bytes.error().message);
  state = {};
  const auto object = formats::StateObject::parse(*bytes, "test");
  if (!object) throw std::runtime_error(object.error().message);
  const auto end = GenerationClock::now() + std::chrono::minutes(2);
  while (true) {
    try {
      auto restored = runtime::restore_state(*object, engine, identity);
      if (!restored) throw std::runtime_error(restored.error().message);
      return std::move(restored->state);
    } catch (const runtime::ExhaustedError&) {
      if (GenerationClock::now() > end) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
}

TEST(SameTokens, OfTwoHundredRequestsWhateverHappensToThem) {
  // f32 weights, and those of the file, which is the default.
  for (const auto weights : {std::optional(kernels::PanelFormat::kF32), std::optional<kernels::PanelFormat>()}) {
    models::LoadOptions load;
    load.weights = weights;
    auto opened =
        runtime::OpenedModel::open(KRAIT_SOURCE_DIR "/models/tales", load, {.threads = 2, .prefill_chunk = kChunk});
    ASSERT_TRUE(opened) << opened.error().message;
    const std::uint64_t bytes = opened->engine().states().bytes_per_state();
    opened = runtime::OpenedModel::open(KRAIT_SOURCE_DIR "/models/tales", load,
                                        {.threads = 2, .prefill_chunk = kChunk, .state_memory = 24 * bytes});
    ASSERT_TRUE(opened);
    ASSERT_TRUE(opened->open_tokenizer(KRAIT_SOURCE_DIR "/models/tales"));
    runtime::Engine& engine = opened->engine();
    const auto identity = opened->identity();
    ASSERT_TRUE(identity);
    EXPECT_EQ(engine.model().batch_dependence(), "");
    const std::int64_t drawable = runtime::drawable_vocabulary(engine.model().info(), opened->tokenizer());

    constexpr std::size_t kRequests = 210;
    std::vector<GenerationRequest> requests;
    std::vector<Alone> expected;
    for (std::size_t i = 0; i < kRequests; ++i) {
      requests.push_back(request_of(i, drawable, 200, 24));
      if (i % 3 == 1) {
        // A second half would draw from the seed's beginning again, and not know where to stop.
        requests.back().sampler = {};
        requests.back().sampler.temperature = 0;
        requests.back().stop_ids.clear();
      }
      expected.push_back(say_alone(engine, *opened->tokenizer(), drawable, requests.back()));
    }

    const ParkingFolder folder("two-hundred");
    const auto parking = folder.open(engine, *identity);
    GenerationLoopOptions options = crowded();
    options.scheduler.slots = 20;
    options.parking = parking.get();
    GenerationLoop loop(engine, *opened->tokenizer(), nullptr, options);
    // In waves, since each half that waits for its other one holds a state.
    constexpr std::size_t kWave = 42;
    for (std::size_t wave = 0; wave < kRequests; wave += kWave) {
      std::vector<std::shared_ptr<Recorder>> got;
      for (std::size_t i = wave; i < wave + kWave; ++i) {
        GenerationRequest request = copy_of(requests[i]);
        if (i % 3 == 1) {
          request.max_tokens = std::max<std::int64_t>(request.max_tokens / 2, 1);
          request.return_state = true;
        }
        got.push_back(send(loop, std::move(request)));
      }
      for (std::size_t i = wave; i < wave + kWave; ++i) {
        const std::string what = "request " + std::to_string(i);
        Recorder& first = *got[i - wave];
        if (i % 3 != 1) {
          expect_alike(first, expected[i], what);
          continue;
        }
        // In two halves, with the state saved and restored between them.
        ASSERT_TRUE(first.wait().finish) << what << ": " << first.error->message;
        std::vector<TokenId> all = first.tokens;
        GenerationRequest second = copy_of(requests[i]);
        second.prompt.clear();
        second.max_tokens -= std::ssize(all);
        if (second.max_tokens > 0) {
          second.state = through_bytes(std::exchange(first.finish->state, {}), engine, *identity);
          const auto rest = send(loop, std::move(second));
          ASSERT_TRUE(rest->wait().finish) << what << ": " << rest->error->message;
          all.insert(all.end(), rest->tokens.begin(), rest->tokens.end());
        }
        first.finish->state = {};
        EXPECT_EQ(all, expected[i].tokens) << what;
      }
    }
    EXPECT_TRUE(loop.drain(std::chrono::minutes(1)));
    const GenerationStatistics statistics = loop.statistics();
    EXPECT_GT(statistics.parkings, 20U);  // or the test would not say what it claims
    EXPECT_GT(statistics.spills, 5U);
    EXPECT_GT(statistics.resumes, 5U);
    EXPECT_EQ(statistics.restarts, 0U);
    EXPECT_LT(statistics.steps, statistics.generated_tokens);
    EXPECT_EQ(engine.states().states_in_use(), 0U);
    EXPECT_EQ(parking->totals().bytes, 0U);
  }
}

class EveryArchitectureParked : public testing::TestWithParam<models::SyntheticShape> {};

// States for four and pages that do not suffice, so that sequences go to the disk and come back.
TEST_P(EveryArchitectureParked, SaysTheSameFromTheDisk) {
  const auto tokenizer = tests::byte_tokenizer();
  const auto solo = tests::make_engine(GetParam(), {.threads = 1, .prefill_chunk = kChunk});
  const models::StateLayout& layout = solo->model().state_layout();
  const std::uint64_t memory = std::max<std::uint64_t>(4 * layout.bytes(), 12 * layout.page_bytes());
  const auto engine = tests::make_engine(GetParam(), {.threads = 2, .prefill_chunk = kChunk, .state_memory = memory});
  const std::int64_t drawable = runtime::drawable_vocabulary(engine->model().info(), tokenizer.get());
  const ParkingFolder folder(std::string(GetParam().name));
  const auto parking = folder.open(*engine, tests::identity_of(*engine));
  GenerationLoopOptions options = exact_for(GetParam(), crowded());
  options.parking = parking.get();
  GenerationLoop loop(*engine, *tokenizer, nullptr, options);
  std::vector<GenerationRequest> requests;
  std::vector<std::shared_ptr<Recorder>> got;
  for (std::uint64_t i = 0; i < 14; ++i) {
    requests.push_back(request_of(i, drawable, 150, 30));
    got.push_back(send(loop, copy_of(requests.back())));
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    expect_alike(*got[i], say_alone(*solo, *tokenizer, drawable, requests[i]), "request " + std::to_string(i));
  }
  EXPECT_TRUE(loop.drain(std::chrono::minutes(1)));
  EXPECT_EQ(parking->totals().bytes, 0U);
}

INSTANTIATE_TEST_SUITE_P(Architectures, EveryArchitectureParked, testing::ValuesIn(tests::kTinyModels),
                         [](const auto& info) {
                           std::string name(info.param.name);
                           std::erase(name, '-');
                           return name;
                         });

// A disk with room for one: the others compute their states anew.
TEST(SameTokens, WhenTheDiskIsFullToo) {
  const auto* shape = std::ranges::find(tests::kTinyModels, "tiny-jamba", &models::SyntheticShape::name);
  const auto tokenizer = tests::byte_tokenizer();
  const auto solo = tests::make_engine(*shape, {.threads = 1, .prefill_chunk = kChunk});
  const models::StateLayout& layout = solo->model().state_layout();
  const std::uint64_t memory = std::max<std::uint64_t>(4 * layout.bytes(), 8 * layout.page_bytes());
  const auto engine = tests::make_engine(*shape, {.threads = 1, .prefill_chunk = kChunk, .state_memory = memory});
  const ParkingFolder folder("full");
  const auto parking = folder.open(*engine, tests::identity_of(*engine), layout.bytes() + 3 * layout.page_bytes());
  GenerationLoopOptions options = crowded();
  options.parking = parking.get();
  GenerationLoop loop(*engine, *tokenizer, nullptr, options);
  std::vector<GenerationRequest> requests;
  std::vector<std::shared_ptr<Recorder>> got;
  for (std::uint64_t i = 0; i < 20; ++i) {
    requests.push_back(request_of(i, shape->vocabulary, 200, 60));
    got.push_back(send(loop, copy_of(requests.back())));
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    expect_alike(*got[i], say_alone(*solo, *tokenizer, shape->vocabulary, requests[i]), "request " + std::to_string(i));
  }
}

TEST(SameTokens, ACancelledSequenceLeavesNothingOnTheDisk) {
  constexpr models::SyntheticShape kTiny = tests::kTinyLoopModel;
  const auto tokenizer = tests::byte_tokenizer();
  const std::uint64_t bytes = tests::make_engine(kTiny)->states().bytes_per_state();
  const auto engine = tests::make_engine(kTiny, {.threads = 1, .prefill_chunk = kChunk, .state_memory = 4 * bytes});
  const ParkingFolder folder("cancelled");
  const auto parking = folder.open(*engine, tests::identity_of(*engine));
  GenerationLoopOptions options = crowded();
  options.parking = parking.get();
  GenerationLoop loop(*engine, *tokenizer, nullptr, options);
  std::vector<std::pair<GenerationId, std::shared_ptr<Recorder>>> got;
  for (std::uint64_t i = 0; i < 12; ++i) {
    GenerationRequest request = request_of(i, 256, 100, 10);
    request.max_tokens = 1'000'000;
    request.stop_ids.clear();
    auto recorder = std::make_shared<Recorder>();
    const auto id = loop.submit(std::move(request), recorder);
    ASSERT_TRUE(id);
    got.emplace_back(*id, recorder);
  }
  const auto end = GenerationClock::now() + std::chrono::minutes(1);
  while (loop.statistics().spills < 3 && GenerationClock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_GE(loop.statistics().spills, 3U);
  for (const auto& [id, recorder] : got) loop.cancel(id);
  EXPECT_TRUE(loop.drain(std::chrono::minutes(1)));
  EXPECT_EQ(parking->totals().bytes, 0U);
}

// What a model publishes is what makes the difference: those that say they do not depend on the batch do not, which
// mixed_steps_test.cpp shows, and those that do say why.
TEST(BatchDependence, IsPublishedByTheModel) {
  for (const models::SyntheticShape& shape : tests::kTinyModels) {
    const auto model = models::load_model(models::make_synthetic(shape, DType::kF32, 7));
    ASSERT_TRUE(model);
    EXPECT_EQ((*model)->batch_dependence().empty(), tests::keeps_bits_in_mixed_steps(shape))
        << shape.name << ": " << (*model)->batch_dependence();
  }
  const auto why = [](const models::LoadOptions& options) {
    auto opened = runtime::OpenedModel::open(KRAIT_SOURCE_DIR "/models/tales", options, {.threads = 1});
    if (!opened) throw std::runtime_error(opened.error().message);
    return opened->engine().model().batch_dependence();
  };
  EXPECT_EQ(why({}), "");
  models::LoadOptions rounded, in_place, both;
  rounded.weights = kernels::PanelFormat::kInt8;
  EXPECT_EQ(why(rounded), "");
  in_place.in_place = true;
  EXPECT_EQ(why(in_place), "weights used in place");
  both.in_place = true;
  both.state_dtype = DType::kBF16;
  EXPECT_EQ(why(both), "weights used in place, states in bf16");
}

}  // namespace
}  // namespace krait::server
