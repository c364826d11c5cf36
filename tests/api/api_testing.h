// Handles that free themselves, and the models of the tests of the C interface.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "krait.h"

namespace krait::tests {

struct FreeHandle {
  void operator()(krait_model* handle) const { krait_model_free(handle); }
  void operator()(krait_session* handle) const { krait_session_free(handle); }
  void operator()(krait_sampler* handle) const { krait_sampler_free(handle); }
  void operator()(krait_decoder* handle) const { krait_decoder_free(handle); }
};
using Model = std::unique_ptr<krait_model, FreeHandle>;
using Session = std::unique_ptr<krait_session, FreeHandle>;
using Sampler = std::unique_ptr<krait_sampler, FreeHandle>;
using Decoder = std::unique_ptr<krait_decoder, FreeHandle>;

inline const std::string kTales = KRAIT_SOURCE_DIR "/models/tales";
inline const std::string kMamba = KRAIT_SOURCE_DIR "/tests/golden/mamba_tied";  // has no tokenizer
inline const std::string kBamba = KRAIT_SOURCE_DIR "/tests/golden/bamba";  // has attention, and so states that grow

inline void ok(krait_status status) { ASSERT_EQ(status, KRAIT_OK) << krait_last_error(); }

// Two threads, so that the pool has a worker; states of 64 MiB.
inline Model open(const std::string& path, const krait_model_options* options = nullptr) {
  krait_model_options usual = KRAIT_MODEL_OPTIONS;
  usual.threads = 2;
  usual.state_memory = std::uint64_t{64} << 20;
  krait_model* model = nullptr;
  ok(krait_model_open(path.c_str(), options == nullptr ? &usual : options, &model));
  return Model(model);
}

inline Session start(const Model& model) {
  krait_session* session = nullptr;
  ok(krait_session_create(model.get(), &session));
  return Session(session);
}

inline Session fork(const Session& session) {
  krait_session* other = nullptr;
  ok(krait_session_fork(session.get(), &other));
  return Session(other);
}

inline Sampler sampler_of(const Model& model, std::uint64_t seed) {
  krait_sampler_options options = KRAIT_SAMPLER_OPTIONS;
  options.seed = seed;
  options.repetition_penalty = 1.1F;
  krait_sampler* sampler = nullptr;
  ok(krait_sampler_create(model.get(), &options, &sampler));
  return Sampler(sampler);
}

inline void feed(const Session& session, const std::vector<std::int32_t>& ids) {
  ok(krait_session_feed(session.get(), ids.data(), ids.size()));
}

inline void feed(const Session& session, std::string_view text) {
  ok(krait_session_feed_text(session.get(), text.data(), text.size()));
}

inline std::vector<float> logits(const Session& session) {
  const float* row = nullptr;
  std::size_t count = 0;
  ok(krait_session_logits(session.get(), &row, &count));
  return {row, row + count};
}

// The tokens chosen, all of which are fed.
inline std::vector<std::int32_t> go_on(const Session& session, const Sampler& sampler, int count) {
  std::vector<std::int32_t> ids;
  for (int i = 0; i < count; ++i) {
    std::int32_t id = -1;
    ok(krait_session_sample(session.get(), sampler.get(), &id));
    feed(session, {id});
    ids.push_back(id);
  }
  return ids;
}

inline std::vector<std::byte> save(const Session& session, const krait_save_options* options = nullptr) {
  void* bytes = nullptr;
  std::size_t count = 0;
  ok(krait_session_save_bytes(session.get(), options, &bytes, &count));
  const auto* first = static_cast<const std::byte*>(bytes);
  std::vector<std::byte> saved(first, first + count);
  krait_free(bytes);
  return saved;
}

}  // namespace krait::tests
