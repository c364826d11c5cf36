// A tiny engine and states of it, for tests of what keeps them.
#pragma once

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

#include "krait/core/random.h"
#include "krait/models/registry.h"
#include "krait/models/synthetic.h"
#include "krait/runtime/session.h"
#include "krait/runtime/state_store.h"

namespace krait::tests {

inline constexpr models::SyntheticShape kStoredModel{"tiny", "mamba2", 2, 16, 23, 8, 8};

inline std::unique_ptr<runtime::Engine> make_engine(const models::SyntheticShape& shape,
                                                    runtime::EngineOptions options = {.threads = 1}) {
  if (options.state_memory == 0) options.state_memory = std::uint64_t{64} << 20;
  auto model = models::load_model(models::make_synthetic(shape, DType::kF32, 7));
  if (!model) throw std::runtime_error(model.error().message);
  return std::make_unique<runtime::Engine>(*std::move(model), options);
}

inline formats::StateIdentity identity_of(const runtime::Engine& engine, std::uint64_t model = 1) {
  return {
      .architecture = engine.model().info().architecture, .weights = "f32", .model = {1, model}, .tokenizer = {2, 2}};
}

inline std::vector<runtime::TokenId> random_tokens(std::int64_t count, std::int64_t vocabulary, std::uint64_t seed) {
  Random random(seed);
  std::vector<runtime::TokenId> tokens(static_cast<std::size_t>(count));
  for (auto& token : tokens) {
    token = static_cast<runtime::TokenId>(random.next() % static_cast<std::uint64_t>(vocabulary));
  }
  return tokens;
}

inline runtime::State state_behind(runtime::Engine& engine, std::span<const runtime::TokenId> tokens) {
  runtime::Session session(engine);
  session.feed(tokens);
  return session.snapshot();
}

// What must come back bit for bit.
inline std::vector<std::byte> content_of(const runtime::Engine& engine, const runtime::State& state) {
  const models::StateLayout& layout = engine.model().state_layout();
  std::vector<std::byte> content(state.bundle(), state.bundle() + layout.bytes());
  for (const std::byte* page : state.pages()) content.insert(content.end(), page, page + layout.page_bytes());
  const auto logits = std::as_bytes(state.logits());
  content.insert(content.end(), logits.begin(), logits.end());
  return content;
}

// The next tokens, each the likeliest, and the logits after each.
struct Continuation {
  std::vector<runtime::TokenId> tokens;
  std::vector<std::vector<float>> logits;
};
inline Continuation greedy(runtime::Session& session, int count) {
  Continuation continuation;
  for (int i = 0; i < count; ++i) {
    const auto logits = session.logits();
    continuation.logits.emplace_back(logits.begin(), logits.end());
    const auto best = static_cast<runtime::TokenId>(std::ranges::max_element(logits) - logits.begin());
    continuation.tokens.push_back(best);
    session.feed({&best, 1});
  }
  return continuation;
}

}  // namespace krait::tests
