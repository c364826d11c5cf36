// The law of states, for every architecture of the registry with tiny random weights: the state after n tokens does
// not depend on how they were cut into chunks, who they were batched with, or how many threads ran.
#include <gtest/gtest.h>

#include <cstring>

#include "krait/core/random.h"
#include "krait/models/synthetic.h"
#include "tests/support/golden_logits.h"
#include "tests/support/tiny_models.h"

namespace krait::tests {
namespace {

using models::SyntheticShape;

constexpr std::int64_t kLength = 150;

std::vector<std::int32_t> random_ids(std::int64_t count, std::int64_t vocabulary, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  for (auto& id : ids) id = static_cast<std::int32_t>(random.next() % static_cast<std::uint64_t>(vocabulary));
  return ids;
}

std::unique_ptr<runtime::Engine> make_engine(const SyntheticShape& shape, runtime::EngineOptions options,
                                             DType dtype = DType::kF32) {
  auto model = models::load_model(models::make_synthetic(shape, dtype, 7));
  if (!model) throw std::runtime_error(model.error().message);
  return std::make_unique<runtime::Engine>(*std::move(model), options);
}

std::vector<float> state_of(const runtime::Session& session) {
  const auto page_bytes = session.engine().states().page_bytes();
  std::vector<float> values((session.state().size() + session.pages().size() * page_bytes) / sizeof(float));
  std::memcpy(values.data(), session.state().data(), session.state().size());
  auto* to = reinterpret_cast<std::byte*>(values.data()) + session.state().size();
  for (const std::byte* page : session.pages()) {
    std::memcpy(to, page, page_bytes);
    to += page_bytes;
  }
  return values;
}

bool engine_keeps_keys(const SyntheticShape& shape) {
  const auto engine = make_engine(shape, {.threads = 1});
  return engine->model().state_layout().page_bytes() > 0;
}

double difference(std::span<const float> left, std::span<const float> right) {
  EXPECT_EQ(left.size(), right.size());
  double largest = 0;
  double scale = 0;
  for (std::size_t i = 0; i < left.size(); ++i) {
    largest = std::max(largest, std::fabs(static_cast<double>(left[i]) - static_cast<double>(right[i])));
    scale = std::max(scale, std::fabs(static_cast<double>(left[i])));
  }
  return largest / scale;
}

// Different cuts order sums differently. Each of the 2 to 3 layers adds a few roundings of products of up to 80 terms
// (80 × 2^-24 = 5e-6); decays below one keep the recurrence from piling them up.
constexpr double kCutTolerance = 2e-5;

class StateLaw : public testing::TestWithParam<SyntheticShape> {};

TEST_P(StateLaw, AnyCutGivesTheSameLogitsAndState) {
  const auto ids = random_ids(kLength, GetParam().vocabulary, 3);
  const auto engine = make_engine(GetParam(), {.threads = 2});
  runtime::Session whole(*engine);
  const auto expected = all_logits(whole, ids);
  for (const std::int64_t cut : {1, 2, 17, 64, 149}) {
    const auto cutting = make_engine(GetParam(), {.threads = 2, .prefill_chunk = cut});
    runtime::Session session(*cutting);
    EXPECT_LE(relative_error(all_logits(session, ids), expected), kCutTolerance) << "chunks of " << cut;
    EXPECT_LE(difference(state_of(whole), state_of(session)), kCutTolerance) << "chunks of " << cut;
    EXPECT_EQ(session.position(), kLength);
  }
}

TEST_P(StateLaw, ThreadsDoNotChangeABit) {
  const auto ids = random_ids(kLength, GetParam().vocabulary, 4);
  const auto one = make_engine(GetParam(), {.threads = 1});
  runtime::Session alone(*one);
  const auto expected = all_logits(alone, ids);
  for (const int threads : {2, 3}) {
    const auto engine = make_engine(GetParam(), {.threads = threads});
    runtime::Session session(*engine);
    EXPECT_EQ(all_logits(session, ids), expected) << threads << " threads";
    EXPECT_EQ(state_of(session), state_of(alone)) << threads << " threads";
  }
}

TEST_P(StateLaw, StrangersInTheBatchChangeNothing) {
  const std::int64_t vocabulary = GetParam().vocabulary;
  const auto ids = random_ids(40, vocabulary, 5);
  const auto engine = make_engine(GetParam(), {.threads = 2});
  runtime::Session alone(*engine);
  const auto expected = all_logits(alone, ids);

  // The same tokens in pieces, each beside strangers of other lengths at other positions.
  runtime::Session session(*engine);
  std::vector<runtime::Session> strangers;
  for (int i = 0; i < 3; ++i) strangers.emplace_back(*engine);
  std::vector<std::vector<float>> got;
  std::uint64_t seed = 100;
  const std::span<const std::int32_t> all(ids);
  for (std::size_t begin = 0; begin < all.size();) {
    const std::size_t length = std::min<std::size_t>(1 + seed % 9, all.size() - begin);
    std::vector<std::vector<std::int32_t>> noise;
    for (std::size_t i = 0; i < strangers.size(); ++i)
      noise.push_back(random_ids(1 + (seed + i) % 5, vocabulary, seed + i));
    const std::vector<runtime::StepRequest> requests = {
        {&strangers[0], noise[0], static_cast<std::int64_t>(noise[0].size())},
        {&session, all.subspan(begin, length), 0},
        {&strangers[1], noise[1], 0},
        {&strangers[2], noise[2], static_cast<std::int64_t>(noise[2].size()) - 1},
    };
    const runtime::OutputRows rows = engine->step(requests).logits;
    ASSERT_EQ(rows.rows, static_cast<std::int64_t>(length + noise[1].size() + 1));
    for (std::size_t i = 0; i < length; ++i) {
      const auto row = rows.row(static_cast<std::int64_t>(i));
      got.emplace_back(row.begin(), row.end());
    }
    begin += length;
    ++seed;
  }
  EXPECT_LE(relative_error(got, expected), kCutTolerance);
  EXPECT_LE(difference(state_of(alone), state_of(session)), kCutTolerance);
}

TEST_P(StateLaw, BatchedSingleTokensEqualSingleTokensAloneToTheBit) {
  const auto engine = make_engine(GetParam(), {.threads = 2});
  constexpr std::size_t kSequences = 5;
  std::vector<std::vector<std::int32_t>> ids;
  std::vector<runtime::Session> batched;
  for (std::size_t i = 0; i < kSequences; ++i) {
    ids.push_back(random_ids(6, GetParam().vocabulary, 50 + i));
    batched.emplace_back(*engine);
  }
  std::vector<std::vector<std::vector<float>>> got(kSequences);
  for (std::size_t t = 0; t < 6; ++t) {
    std::vector<runtime::StepRequest> requests;
    for (std::size_t i = 0; i < kSequences; ++i) requests.push_back({&batched[i], {&ids[i][t], 1}, 0});
    const runtime::OutputRows rows = engine->step(requests).logits;
    for (std::size_t i = 0; i < kSequences; ++i) {
      const auto row = rows.row(static_cast<std::int64_t>(i));
      got[i].emplace_back(row.begin(), row.end());
    }
  }
  const auto single = make_engine(GetParam(), {.threads = 1, .prefill_chunk = 1});
  for (std::size_t i = 0; i < kSequences; ++i) {
    runtime::Session session(*single);
    EXPECT_EQ(all_logits(session, ids[i]), got[i]) << "sequence " << i;
    EXPECT_EQ(state_of(session), state_of(batched[i])) << "sequence " << i;
  }
}

TEST_P(StateLaw, AForkGoesItsOwnWay) {
  const auto engine = make_engine(GetParam(), {.threads = 2});
  const auto past = random_ids(20, GetParam().vocabulary, 8);
  const auto left = random_ids(10, GetParam().vocabulary, 9);
  const auto right = random_ids(10, GetParam().vocabulary, 10);
  runtime::Session trunk(*engine);
  trunk.feed(past);
  runtime::Session branch = trunk.fork();
  EXPECT_EQ(branch.position(), 20);
  const auto trunk_logits = all_logits(trunk, left);
  const auto branch_logits = all_logits(branch, right);

  runtime::Session again(*engine);
  again.feed(past);
  EXPECT_EQ(all_logits(again, right), branch_logits);
  runtime::Session once_more(*engine);
  once_more.feed(past);
  EXPECT_EQ(all_logits(once_more, left), trunk_logits);
}

TEST_P(StateLaw, SixteenBitWeightsStayCloseToTheirF32Selves) {
  // The same bf16 values, kept as bf16 and widened to f32 at load, are the same model.
  const auto ids = random_ids(60, GetParam().vocabulary, 11);
  const auto narrow = make_engine(GetParam(), {.threads = 2}, DType::kBF16);
  EXPECT_EQ(narrow->model().info().weights, kernels::PanelFormat::kBF16);
  models::LoadOptions load;
  load.weights = kernels::PanelFormat::kF32;
  auto model = models::load_model(models::make_synthetic(GetParam(), DType::kBF16, 7), load);
  ASSERT_TRUE(model) << model.error().message;
  runtime::Engine wide(*std::move(model), {.threads = 2});
  runtime::Session narrow_session(*narrow);
  runtime::Session wide_session(wide);
  EXPECT_LE(relative_error(all_logits(narrow_session, ids), all_logits(wide_session, ids)), kCutTolerance);
}

TEST_P(StateLaw, TheLayoutIsWhatTheFormulaSays) {
  const SyntheticShape& shape = GetParam();
  const auto engine = make_engine(shape, {.threads = 1});
  const models::StateLayout& layout = engine->model().state_layout();
  runtime::Session session(*engine);
  session.feed(random_ids(130, shape.vocabulary, 12));
  EXPECT_EQ(session.state().size() + session.pages().size() * layout.page_bytes(), layout.bytes_at(130));
  if (!shape.config.empty()) return;
  std::uint64_t floats = 0;
  for (const models::StateTensor& tensor : engine->model().state_layout().tensors()) {
    floats += static_cast<std::uint64_t>(*element_count(tensor.shape));
    EXPECT_EQ(tensor.offset % 64, 0U) << tensor.name;
  }
  const std::int64_t inner = 2 * shape.width;
  std::int64_t layer = inner * (shape.states + 3);
  if (shape.architecture == "mamba2") {
    layer = inner * shape.states + (inner + 2 * shape.groups * shape.states) * 3;
  } else if (shape.architecture == "mamba3") {
    const std::int64_t heads = inner / shape.head_width, rank = std::max<std::int64_t>(1, shape.rank);
    layer = inner * shape.states + heads * (shape.states / 4 + rank * shape.states) + inner;
  } else if (shape.architecture == "rwkv7") {
    layer = shape.width * shape.head_width + 2 * shape.width;
  }
  EXPECT_EQ(floats, static_cast<std::uint64_t>(layer * shape.layers));
}

// Keys and values rounded when they are stored are the same in any cut, however their tokens came in.
TEST_P(StateLaw, StoredKeysAndValuesDoNotDependOnTheCut) {
  const auto ids = random_ids(100, GetParam().vocabulary, 13);
  for (const DType dtype : {DType::kBF16, DType::kI8}) {
    models::LoadOptions load;
    load.kv_dtype = dtype;
    const auto run = [&](std::int64_t cut) {
      auto model = models::load_model(models::make_synthetic(GetParam(), DType::kF32, 7), load);
      runtime::Engine engine(*std::move(model), {.threads = 2, .prefill_chunk = cut});
      runtime::Session session(engine);
      return all_logits(session, ids);
    };
    // A rounding may fall to the other side where sums were ordered differently: a step of bf16 or int8, in one of
    // many.
    EXPECT_LE(relative_error(run(7), run(100)), engine_keeps_keys(GetParam()) ? 2e-3 : kCutTolerance)
        << to_string(dtype);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, StateLaw, testing::ValuesIn(kTinyModels), [](const auto& info) {
  std::string name(info.param.name);
  std::erase(name, '-');
  return name;
});

}  // namespace
}  // namespace krait::tests
