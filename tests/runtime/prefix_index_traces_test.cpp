// The policy on real traces: a count, the same on every machine. The table is in docs/state_store.md.
#include <gtest/gtest.h>

#include "tests/support/request_trace.h"
#include "tests/support/shared_data.h"

namespace krait::runtime {
namespace {

struct Bar {
  const char* trace;
  std::uint64_t states;
  double at_least;  // of an independent simulation of "last + junction, LRU", in three digits
};

class PrefixIndexTraces : public testing::TestWithParam<Bar> {};

TEST_P(PrefixIndexTraces, FindMoreThanLastAndJunctionByLru) {
  KRAIT_REQUIRE_SHARED_DATA(shared);
  const auto path = shared / "data" / "traces" / GetParam().trace;
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "skipped: no shared data";
  const auto trace = tests::read_request_trace(path);
  const auto plain = replay_lru(trace, GetParam().states, tests::LruKeeps::last_and_junction);
  const auto index = replay_index(trace, tests::options_in_blocks(GetParam().states));
  EXPECT_NEAR(plain.hit_rate, GetParam().at_least, 0.0005);  // both count alike
  EXPECT_GT(index.hit_rate, plain.hit_rate);
  EXPECT_GE(index.hit_rate, GetParam().at_least);
  EXPECT_LE(index.states, GetParam().states);
}

INSTANTIATE_TEST_SUITE_P(
    All, PrefixIndexTraces,
    testing::Values(Bar{"mooncake_conversation.jsonl", 1000, .275}, Bar{"mooncake_conversation.jsonl", 4000, .352},
                    Bar{"mooncake_synthetic.jsonl", 1000, .572}, Bar{"mooncake_synthetic.jsonl", 4000, .582}),
    [](const auto& bar) { return std::string(bar.param.trace).substr(9, 4) + std::to_string(bar.param.states); });

// No state that nobody placed can be found: with all states kept at all blocks the trace's own overlap comes out.
TEST(PrefixIndexTraces, WithoutALimitComeUpToTheOverlapOfTheTrace) {
  KRAIT_REQUIRE_SHARED_DATA(shared);
  const auto path = shared / "data" / "traces" / "mooncake_synthetic.jsonl";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "skipped: no shared data";
  const auto trace = tests::read_request_trace(path);
  auto options = tests::options_in_blocks(PrefixIndex::kUnlimited);
  options.grid_states = 1 << 20;
  const auto dense = replay_lru(trace, PrefixIndex::kUnlimited, tests::LruKeeps::every_block);
  EXPECT_DOUBLE_EQ(replay_index(trace, options).hit_rate, dense.hit_rate);
}

}  // namespace
}  // namespace krait::runtime
