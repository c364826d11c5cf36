// What state_store_crash_test.py runs and kills:
//   state_store_crash_child fill FOLDER small|large SEED     keeps states until it is killed, and prints
//       "acknowledged PREFIX" for each that the store says is on the disk
//   state_store_crash_child check FOLDER small|large KEPT    opens what was left, computes every state again, and
//   prints
//       "held PREFIX" where it is the same to the bit; then removes all but the last KEPT and prints "removed PREFIX"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/runtime/stored_states.h"

namespace krait::runtime {
namespace {

// Objects of some kilobytes, and of 5.3 megabytes, which are written in two parts.
constexpr models::SyntheticShape kLarge{"large", "mamba2", 2, 512, 23, 640, 64};

int say(const char* what, const std::string& which) {
  std::printf("%s %s\n", what, which.c_str());
  return std::fflush(stdout);
}

int fill(Engine& engine, const StateStoreOptions& options, std::uint64_t seed) {
  auto store = StateStore::open(engine, tests::identity_of(engine), options);
  if (!store) {
    say("error", store.error().message);
    return 1;
  }
  say("ready", "");
  Random random(seed);
  for (;;) {
    std::vector<State> states;
    for (std::uint64_t i = 0; i < 1 + random.next() % 4; ++i) {
      const auto tokens = tests::random_tokens(12, 23, random.next());
      states.push_back(tests::state_behind(engine, tokens));
      (*store)->admit(tokens, states.back(), StateKind::prompt);
    }
    if (const auto flushed = (*store)->flush(); !flushed) {
      say("error", flushed.error().message);
      return 1;
    }
    for (const State& state : states) say("acknowledged", state.prefix().hex());
  }
}

int check(Engine& engine, const StateStoreOptions& options, std::size_t kept) {
  const auto identity = tests::identity_of(engine);
  std::vector<StateDisk::Record> records;
  {
    const Hash128 owner = owner_of(identity, engine.model().state_layout());
    auto disk = StateDisk::open(options.folder, owner, options.disk_bytes);
    if (!disk) {
      say("error", disk.error().message);
      return 1;
    }
    if ((*disk)->damaged() != 0) say("error", "damaged records");
    records = (*disk)->take_records();
  }
  auto store = StateStore::open(engine, identity, options);
  if (!store) {
    say("error", store.error().message);
    return 1;
  }
  for (const StateDisk::Record& record : records) {
    const auto found = (*store)->find(record.tokens);
    const bool same =
        found.state && found.state.prefix() == record.prefix &&
        tests::content_of(engine, found.state) == tests::content_of(engine, tests::state_behind(engine, record.tokens));
    say(same ? "held" : "damaged", record.prefix.hex());
  }
  for (std::size_t i = 0; i + kept < records.size(); ++i) {
    (*store)->forget(records[i].tokens);
    say("removed", records[i].prefix.hex());
  }
  const auto flushed = (*store)->flush();
  if (!flushed) say("error", flushed.error().message);
  return 0;
}

int run(int count, char** arguments) {
  if (count != 5) return 2;
  const std::string what = arguments[1];
  const bool large = std::string(arguments[3]) == "large";
  const std::uint64_t number = std::strtoull(arguments[4], nullptr, 10);
  const auto engine =
      tests::make_engine(large ? kLarge : tests::kStoredModel,
                         {.threads = 1, .state_memory = (large ? std::uint64_t{200} : std::uint64_t{2}) << 20});
  const StateStoreOptions options{
      .folder = arguments[2], .disk_bytes = std::uint64_t{4} << 30, .zstd_level = static_cast<int>(number % 2)};
  return what == "fill" ? fill(*engine, options, number) : check(*engine, options, static_cast<std::size_t>(number));
}

}  // namespace
}  // namespace krait::runtime

int main(int count, char** arguments) { return krait::runtime::run(count, arguments); }
