// Between states in memory and state objects (formats/state_file.h): what a state is written with, and what is asked of
// an object before a session goes on from it. Restoring fails closed: an object of another model, tokenizer, format of
// weights or layout of state is refused with a sentence that says which differs.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "krait/core/error.h"
#include "krait/formats/state_file.h"
#include "krait/runtime/engine.h"
#include "krait/runtime/sampler.h"
#include "krait/runtime/state.h"

namespace krait::runtime {

struct StateExtras {
  std::span<const TokenId> tokens = {};  // all tokens before the state, where they shall be kept with it
  const Sampler* sampler = nullptr;      // how it would go on, draw for draw
  std::string note = {};
  int zstd_level = 0;
};

// A state as sections of an object. What they point into must live as long as they do.
class StateSections {
 public:
  StateSections(const Engine& engine, const formats::StateIdentity& identity, const State& state,
                const StateExtras& extras);
  const formats::StateDescription& description() const { return description_; }
  std::span<const formats::StateSource> sources() const { return sources_; }

 private:
  formats::StateDescription description_;
  std::vector<formats::StateSource> sources_;
  std::vector<std::int64_t> counts_;
};

Result<void> save_state(const std::filesystem::path& path, const Engine& engine, const formats::StateIdentity& identity,
                        const State& state, const StateExtras& extras = {});

// What stands in an object beside the state.
struct RestoredState {
  State state;
  std::vector<TokenId> tokens;  // empty: not kept
  std::optional<SavedSampler> sampler;
};

// Verifies the object, then copies it into memory of the engine's pool. kInvalidArgument when it belongs to something
// else, kCorrupt when it is damaged. Throws ExhaustedError when the pool is full.
Result<RestoredState> restore_state(const formats::StateObject& object, Engine& engine,
                                    const formats::StateIdentity& identity);

// Only whether it may be restored, from what the header says.
Result<void> check_identity(const formats::StateObject& object, const models::StateLayout& layout,
                            std::int64_t vocabulary, const formats::StateIdentity& identity);

}  // namespace krait::runtime
