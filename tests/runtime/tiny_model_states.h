// Tiny models by name, and all that can be seen of a session that goes on.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "krait/models/synthetic.h"
#include "krait/runtime/open_model.h"
#include "krait/runtime/session.h"
#include "tests/support/tiny_models.h"

namespace krait::tests {

inline const models::SyntheticShape* find_tiny_model(std::string_view name) {
  const auto* found = std::ranges::find(kTinyModels, name, &models::SyntheticShape::name);
  return found == std::end(kTinyModels) ? nullptr : found;
}

// Keys and values are kept in the dtype of the states. Two threads, and chunks that sequences of tests are longer than.
inline Result<runtime::OpenedModel> open_tiny_model(const models::SyntheticShape& shape, DType state_dtype) {
  models::LoadOptions load;
  load.state_dtype = load.kv_dtype = state_dtype;
  return runtime::OpenedModel::open(models::make_synthetic(shape, DType::kF32, /*seed=*/7), load,
                                    {.threads = 2, .prefill_chunk = 32, .state_memory = std::uint64_t{64} << 20});
}

// The logits before the tokens and after each of them, then the bundle and the pages.
inline std::vector<std::byte> logits_and_state(runtime::Session& session, std::span<const std::int32_t> ids) {
  std::vector<std::byte> out;
  const auto append = [&](std::span<const std::byte> bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); };
  append(std::as_bytes(session.logits()));
  session.feed_each(ids, [&](std::int64_t, std::span<const float> row) { append(std::as_bytes(row)); });
  append(session.state());
  for (const std::byte* page : session.pages()) append({page, session.engine().states().page_bytes()});
  return out;
}

}  // namespace krait::tests
