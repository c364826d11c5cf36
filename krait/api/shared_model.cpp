#include "krait/api/shared_model.h"

#include <algorithm>
#include <mutex>

namespace krait::api {

Result<std::shared_ptr<SharedModel>> SharedModel::open(const std::filesystem::path& path,
                                                       const krait_model_options& options) {
  const auto text = [](const char* option) { return option == nullptr ? std::string_view() : option; };
  KRAIT_ASSIGN(models::LoadOptions load,
               runtime::load_options(text(options.weights), text(options.state_dtype), text(options.kv_dtype)));
  load.in_place = options.in_place != 0;
  constexpr std::int32_t kMostThreads = 1024;
  if (options.threads < 0 || options.threads > kMostThreads) {
    return fail(ErrorCode::kInvalidArgument, "[api] {} threads: 1 to {} can be asked for, or 0 for one each core",
                options.threads, kMostThreads);
  }

  auto model = std::make_shared<SharedModel>();
  KRAIT_ASSIGN(model->opened_, runtime::OpenedModel::open(
                                   path, load, {.threads = options.threads, .state_memory = options.state_memory}));
  const bool own = options.tokenizer == nullptr;
  if (auto done = model->opened_.open_tokenizer(own ? path : std::filesystem::path(options.tokenizer)); !done) {
    if (!own || done.error().code != ErrorCode::kNotFound) return std::unexpected(std::move(done).error());
    model->no_tokenizer_ = std::move(done).error();
  }
  model->weights_ = kernels::to_string(model->info().weights);
  model->end_ids_ = runtime::end_of_text_ids(model->info(), model->tokenizer());
  return model;
}

Result<const formats::Tokenizer*> SharedModel::need_tokenizer() const {
  if (no_tokenizer_) return std::unexpected(*no_tokenizer_);
  return tokenizer();
}

Result<void> SharedModel::check_ids(std::span<const TokenId> ids) {
  const std::int64_t vocabulary = info().vocabulary;
  const auto wrong = std::ranges::find_if(ids, [&](TokenId id) { return id < 0 || id >= vocabulary; });
  if (wrong == ids.end()) return {};
  return fail(ErrorCode::kInvalidArgument, "[api] token id {} is outside the vocabulary: ids of this model are 0 … {}",
              *wrong, vocabulary - 1);
}

Result<void> SharedModel::feed(runtime::Session& session, std::span<const TokenId> ids) {
  KRAIT_TRY(check_ids(ids));
  const auto piece = static_cast<std::size_t>(engine().options().prefill_chunk);
  while (!ids.empty()) {
    const auto part = ids.first(std::min(piece, ids.size()));
    const std::lock_guard turn(turns_);
    session.feed(part);
    ids = ids.subspan(part.size());
  }
  return {};
}

Result<formats::StateIdentity> SharedModel::identity() {
  const std::lock_guard turn(turns_);
  return opened_.identity();
}

}  // namespace krait::api
