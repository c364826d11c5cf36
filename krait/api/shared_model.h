// A model that several handles hold, and the handles themselves. The last of them frees it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "krait.h"
#include "krait/api/turns.h"
#include "krait/runtime/open_model.h"
#include "krait/runtime/prompt.h"
#include "krait/runtime/sampler.h"
#include "krait/runtime/session.h"

namespace krait::api {

using formats::TokenId;

// Thread-safe.
class SharedModel {
 public:
  static Result<std::shared_ptr<SharedModel>> open(const std::filesystem::path& path,
                                                   const krait_model_options& options);

  runtime::Engine& engine() { return opened_.engine(); }
  const models::ModelInfo& info() { return engine().model().info(); }
  const std::string& weights() const { return weights_; }
  const std::vector<TokenId>& end_ids() const { return end_ids_; }
  const formats::Tokenizer* tokenizer() const { return opened_.tokenizer(); }
  // Or why there is none.
  Result<const formats::Tokenizer*> need_tokenizer() const;
  // kInvalidArgument for an id outside the vocabulary.
  Result<void> check_ids(std::span<const TokenId> ids);

  // Ids below may be chosen.
  std::int64_t drawable() { return runtime::drawable_vocabulary(info(), tokenizer()); }

  // Takes the lock for each piece of the engine's size. Feeds nothing when an id is wrong.
  Result<void> feed(runtime::Session& session, std::span<const TokenId> ids);
  Result<formats::StateIdentity> identity();

 private:
  runtime::OpenedModel opened_;
  std::optional<Error> no_tokenizer_;
  std::string weights_;
  std::vector<TokenId> end_ids_;
  Turns turns_;  // of the engine's threads and scratch memory, and of opened_.identity()
};

}  // namespace krait::api

struct krait_model {
  std::shared_ptr<krait::api::SharedModel> shared;
};

struct krait_session {
  std::shared_ptr<krait::api::SharedModel> model;  // first, so that it outlives the state
  krait::runtime::Session session;
};

struct krait_sampler {
  std::shared_ptr<krait::api::SharedModel> model;
  krait::runtime::Sampler sampler;
};
