#include "krait/runtime/engine.h"

#include <algorithm>

#include "krait/core/available_memory.h"
#include "krait/core/cores.h"
#include "krait/core/error.h"

namespace krait::runtime {
namespace {

std::uint64_t memory_for_states(const EngineOptions& options) {
  if (options.state_memory != 0) return options.state_memory;
  constexpr std::uint64_t kUnknown = std::uint64_t{4} << 30;  // where the system does not say what is left
  return available_memory().value_or(2 * kUnknown) / 2;
}

}  // namespace

Engine::Engine(std::unique_ptr<models::Model> model, EngineOptions options)
    : model_(std::move(model)),
      options_(options),
      cores_(by_place(usable_cores())),
      states_(model_->state_layout().bytes(), model_->state_layout().page_bytes(), memory_for_states(options)),
      whole_(*this, options.threads, cores_) {
  if (options_.prefill_chunk < 1) {
    throw UserError(fmt::format("a prefill chunk of {} tokens is not possible", options_.prefill_chunk),
                    "give at least 1");
  }
}

std::int64_t Engine::logit_rows_at_once() const {
  constexpr std::int64_t kFloats = (std::int64_t{16} << 20) / static_cast<std::int64_t>(sizeof(float));
  return std::clamp<std::int64_t>(kFloats / model_->info().vocabulary, 1, options_.prefill_chunk);
}

void Engine::check_tokens(std::span<const TokenId> tokens) const {
  const std::int64_t vocabulary = model_->info().vocabulary;
  for (const TokenId id : tokens) {
    if (id < 0 || id >= vocabulary) {
      throw UserError(fmt::format("token id {} is outside the vocabulary", id),
                      fmt::format("ids of this model are 0 … {}", vocabulary - 1));
    }
  }
}

std::unique_ptr<Lane> Engine::make_lane(int first, int count) {
  if (first < 0 || count < 1 || first + count > cores()) {
    throw UserError(fmt::format("a lane on cores {} … {} is not possible", first, first + count - 1),
                    fmt::format("the engine has {}", cores()));
  }
  // Where the engine leaves cores of the process to others, nobody can say which ones those use.
  const bool has_all = cores() == static_cast<int>(cores_.size());
  const std::span<const int> own = std::span<const int>(cores_).subspan(static_cast<std::size_t>(has_all ? first : 0));
  return std::make_unique<Lane>(*this, count, std::vector<int>(own.begin(), has_all ? own.begin() + count : own.end()));
}

}  // namespace krait::runtime
