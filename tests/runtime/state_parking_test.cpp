#include "krait/runtime/state_parking.h"

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>

#include "tests/runtime/stored_states.h"

namespace krait::runtime {
namespace {

using Stage = StateParking::Stage;

class Parking : public testing::Test {
 protected:
  Parking()
      : engine(tests::make_engine(tests::kStoredModel)), folder(std::filesystem::path(testing::TempDir()) / "parking") {
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
  }
  ~Parking() override { std::filesystem::remove_all(folder); }
  std::unique_ptr<StateParking> open(std::uint64_t disk_bytes = 1 << 20) const {
    auto parking = StateParking::open(*engine, tests::identity_of(*engine), {folder, disk_bytes});
    if (!parking) throw std::runtime_error(parking.error().message);
    return *std::move(parking);
  }
  State state(std::int64_t tokens) const { return tests::state_behind(*engine, tests::random_tokens(tokens, 23, 1)); }
  static bool reaches(const StateParking& parking, StateParking::Ticket ticket, Stage stage) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (parking.stage(ticket) != stage) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }
  std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()));
  }

  std::unique_ptr<Engine> engine;
  std::filesystem::path folder;
};

TEST_F(Parking, AStateLeavesMemoryAndComesBackToTheBit) {
  const auto parking = open();
  State parked = state(30);
  const auto content = tests::content_of(*engine, parked);
  const Hash128 prefix = parked.prefix();
  const auto ticket = parking->park(std::move(parked));
  ASSERT_TRUE(ticket);
  parked = {};
  ASSERT_TRUE(reaches(*parking, *ticket, Stage::parked));
  EXPECT_EQ(engine->states().states_in_use(), 0U);
  EXPECT_EQ(parking->writing(), 0);
  EXPECT_EQ(files(), 1U);
  parking->fetch(*ticket);
  ASSERT_TRUE(reaches(*parking, *ticket, Stage::ready));
  const State back = parking->take(*ticket);
  EXPECT_EQ(back.position(), 30);
  EXPECT_EQ(back.prefix(), prefix);
  EXPECT_EQ(tests::content_of(*engine, back), content);
  EXPECT_EQ(files(), 0U);
  EXPECT_EQ(parking->totals().parked, 1U);
  EXPECT_EQ(parking->totals().fetched, 1U);
  EXPECT_EQ(parking->totals().bytes, 0U);
}

TEST_F(Parking, OneThatIsStillBeingWrittenCanBeTaken) {
  const auto parking = open();
  const State kept = state(10);
  for (int i = 0; i < 20; ++i) {
    const auto ticket = parking->park(kept);
    ASSERT_TRUE(ticket);
    if (parking->stage(*ticket) != Stage::writing) {
      parking->drop(*ticket);
      continue;
    }
    try {
      EXPECT_EQ(tests::content_of(*engine, parking->take(*ticket)), tests::content_of(*engine, kept));
    } catch (const std::logic_error&) {
      parking->drop(*ticket);  // it was written between the two calls
    }
  }
}

TEST_F(Parking, WhatDoesNotFitOnTheDiskIsNotTaken) {
  const State kept = state(10);
  const std::uint64_t bytes = engine->states().bytes_per_state() + kept.logits().size() * sizeof(float);
  const auto parking = open(2 * bytes);
  const auto first = parking->park(kept);
  ASSERT_TRUE(first);
  ASSERT_TRUE(parking->park(kept));
  EXPECT_FALSE(parking->park(kept));
  parking->drop(*first);
  EXPECT_TRUE(parking->park(kept));
}

TEST_F(Parking, ADamagedFileIsALostState) {
  const auto parking = open();
  const auto ticket = parking->park(state(30));
  ASSERT_TRUE(ticket && reaches(*parking, *ticket, Stage::parked));
  const auto path = std::filesystem::directory_iterator(folder)->path();
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-5, std::ios::end);
    file.put('x');
    file.put('y');
  }
  parking->fetch(*ticket);
  EXPECT_TRUE(reaches(*parking, *ticket, Stage::lost));
  parking->drop(*ticket);
  EXPECT_EQ(files(), 0U);
}

TEST_F(Parking, WithoutMemoryItStaysWhereItIs) {
  const std::uint64_t bytes = engine->states().bytes_per_state();
  engine = tests::make_engine(tests::kStoredModel, {.threads = 1, .state_memory = 4 * bytes});
  const auto parking = open();
  const auto ticket = parking->park(state(30));
  ASSERT_TRUE(ticket && reaches(*parking, *ticket, Stage::parked));
  {
    std::vector<StateSlot> all;
    while (engine->states().states_in_use() < engine->states().capacity()) all.push_back(engine->states().acquire());
    parking->fetch(*ticket);
    EXPECT_TRUE(reaches(*parking, *ticket, Stage::parked));
  }
  parking->fetch(*ticket);
  EXPECT_TRUE(reaches(*parking, *ticket, Stage::ready));
}

TEST_F(Parking, FilesOfAnotherProcessAreRemoved) {
  std::ofstream(folder / "7.parked") << "left";
  std::ofstream(folder / "mine.txt") << "not";
  const auto parking = open();
  EXPECT_EQ(files(), 1U);
  EXPECT_TRUE(std::filesystem::exists(folder / "mine.txt"));
}

TEST_F(Parking, AFolderThatCannotBeIsAnError) {
  std::ofstream(folder / "file") << "in the way";
  const auto parking = StateParking::open(*engine, tests::identity_of(*engine), {folder / "file"});
  ASSERT_FALSE(parking);
  EXPECT_EQ(parking.error().code, ErrorCode::kInputOutput);
}

}  // namespace
}  // namespace krait::runtime
