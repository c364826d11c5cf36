// What the loop rests on: pieces of prompts and decodes of strangers in one step change no bit of a sequence, for every
// architecture, as long as prompts are cut where prompt_cut() says.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <vector>

#include "krait/server/scheduler.h"
#include "tests/runtime/stored_states.h"
#include "tests/server/generation_testing.h"
#include "tests/support/tiny_models.h"

namespace krait::server {
namespace {

using runtime::Session;
using runtime::TokenId;
using tests::random_tokens;

constexpr std::int64_t kChunk = 256;
constexpr std::int64_t kGrid = 64;

// The bits of all that a sequence computes: logits behind the prompt and behind each of some tokens, and its state.
struct Bits {
  std::vector<std::vector<float>> logits;
  std::vector<std::byte> state;
  bool operator==(const Bits&) const = default;
};

Bits alone(runtime::Engine& engine, std::span<const TokenId> prompt, std::span<const TokenId> after) {
  Session session(engine);
  Bits bits;
  session.feed(prompt);
  bits.logits.emplace_back(session.logits().begin(), session.logits().end());
  for (const TokenId& token : after) {
    session.feed({&token, 1});
    bits.logits.emplace_back(session.logits().begin(), session.logits().end());
  }
  bits.state = tests::content_of(engine, session.snapshot());
  return bits;
}

// In each step a stranger decodes, another reads a piece of a prompt, before or behind. Not `shared`: each has a step
// of its own, as with batch_invariant.
Bits beside_strangers(runtime::Engine& engine, std::span<const TokenId> prompt, std::span<const TokenId> after,
                      std::int64_t grid, bool shared, std::uint64_t seed) {
  const std::int64_t vocabulary = engine.model().info().vocabulary;
  Random random(seed);
  Session session(engine);
  Session decoding(engine);
  Session reading(engine);
  Bits bits;
  std::vector<TokenId> all(prompt.begin(), prompt.end());
  all.insert(all.end(), after.begin(), after.end());
  std::int64_t fed = 0;
  while (fed < std::ssize(all)) {
    std::int64_t count = 1;
    if (const std::int64_t left = std::ssize(prompt) - fed; left > 0) {
      const std::int64_t until_cut = std::min(left, kChunk - fed % kChunk);
      count = prompt_cut(until_cut, static_cast<std::int64_t>(random.next() % 300), grid);
      if (count == 0) count = least_prompt_cut(until_cut, grid);
    }
    const auto noise = random_tokens(1 + static_cast<std::int64_t>(random.next() % 90), vocabulary, random.next());
    std::vector<runtime::StepRequest> requests = {
        {&decoding, std::span(noise).first(1), 0},
        {&session,
         std::span<const TokenId>(all).subspan(static_cast<std::size_t>(fed), static_cast<std::size_t>(count)),
         count - 1},
        {&reading, noise, std::ssize(noise)},
    };
    std::size_t own_row = 1;
    if (random.next() % 2 == 0) {
      std::swap(requests[0], requests[1]);
      own_row = 0;
    }
    runtime::OutputRows rows;
    if (shared) {
      rows = engine.step(requests).logits;
    } else {
      engine.step({&requests[1 - own_row], 1});
      engine.step({&requests[2], 1});
      rows = engine.step({&requests[own_row], 1}).logits;
      own_row = 0;
    }
    fed += count;
    if (fed >= std::ssize(prompt)) {
      const auto row = rows.row(static_cast<std::int64_t>(own_row));
      bits.logits.emplace_back(row.begin(), row.end());
      session.keep_logits(row);
    }
  }
  bits.state = tests::content_of(engine, session.snapshot());
  return bits;
}

class MixedSteps : public testing::TestWithParam<models::SyntheticShape> {};

std::unique_ptr<runtime::Engine> load(const models::SyntheticShape& shape, const models::LoadOptions& options,
                                      int threads) {
  auto model = models::load_model(models::make_synthetic(shape, DType::kF32, 7), options);
  if (!model) throw std::runtime_error(model.error().message);
  return std::make_unique<runtime::Engine>(
      *std::move(model),
      runtime::EngineOptions{.threads = threads, .prefill_chunk = kChunk, .state_memory = std::uint64_t{64} << 20});
}

void expect_same_bits(const models::SyntheticShape& shape, std::int64_t grid, bool shared,
                      const models::LoadOptions& options = {}) {
  const auto engine = load(shape, options, 2);
  const auto solo = load(shape, options, 1);
  if (shared) {
    ASSERT_EQ(engine->model().batch_dependence(), "");
  }
  for (const std::int64_t length : {1, 2, 64, 65, 129, 200, 257, 385}) {
    const auto prompt = random_tokens(length, shape.vocabulary, 11);
    const auto after = random_tokens(6, shape.vocabulary, 12);
    const Bits expected = alone(*solo, prompt, after);
    for (std::uint64_t seed = 0; seed < 3; ++seed) {
      const Bits got = beside_strangers(*engine, prompt, after, grid, shared, seed);
      ASSERT_EQ(got.logits.size(), expected.logits.size());
      for (std::size_t i = 0; i < got.logits.size(); ++i) {
        ASSERT_EQ(got.logits[i], expected.logits[i]) << length << " tokens, " << i << " tokens later, seed " << seed;
      }
      EXPECT_EQ(got.state, expected.state) << length << " tokens, seed " << seed;
    }
  }
}

class SharedSteps : public MixedSteps {};

TEST_P(SharedSteps, ChangeNoBitOfASequence) { expect_same_bits(GetParam(), kGrid, true); }

// What else may be rounded: keys and values once, where they are stored, and weights at load.
TEST_P(SharedSteps, ChangeNoBitWithRoundedWeightsKeysAndValues) {
  for (const DType kv : {DType::kBF16, DType::kI8}) {
    models::LoadOptions options;
    options.kv_dtype = kv;
    options.weights = kv == DType::kBF16 ? kernels::PanelFormat::kBF16 : kernels::PanelFormat::kInt8;
    SCOPED_TRACE(to_string(kv));
    expect_same_bits(GetParam(), kGrid, true, options);
  }
}

TEST_P(MixedSteps, ChangeNoBitOfAnySequenceWhenTheyAreNotShared) { expect_same_bits(GetParam(), kChunk, false); }

const auto plain_name = [](const testing::TestParamInfo<models::SyntheticShape>& info) {
  std::string name(info.param.name);
  std::erase(name, '-');
  return name;
};

// The others have batch_invariant for this.
std::vector<models::SyntheticShape> models_that_share_steps() {
  std::vector<models::SyntheticShape> shapes;
  std::ranges::copy_if(tests::kTinyModels, std::back_inserter(shapes), tests::keeps_bits_in_mixed_steps);
  return shapes;
}

INSTANTIATE_TEST_SUITE_P(Architectures, MixedSteps, testing::ValuesIn(tests::kTinyModels), plain_name);
INSTANTIATE_TEST_SUITE_P(Architectures, SharedSteps, testing::ValuesIn(models_that_share_steps()), plain_name);

}  // namespace
}  // namespace krait::server
