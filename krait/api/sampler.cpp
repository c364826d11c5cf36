// Choosing tokens, in the C interface.
#include "krait/runtime/sampler.h"

#include <algorithm>
#include <limits>

#include "krait/api/error_text.h"
#include "krait/api/shared_model.h"
#include "krait/api/sized_struct.h"

using namespace krait;
using namespace krait::api;

krait_status krait_sampler_create(const krait_model* model, const krait_sampler_options* options,
                                  krait_sampler** sampler) {
  clear(sampler);
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{model, "model"}, {sampler, "sampler"}}));
    constexpr std::size_t kFirstSize = 48;
    static_assert(sizeof(krait_sampler_options) == kFirstSize);
    KRAIT_ASSIGN(
        const krait_sampler_options wanted,
        read_options<krait_sampler_options>(options, KRAIT_SAMPLER_OPTIONS, kFirstSize, "krait_sampler_options"));
    const runtime::SamplerOptions choice{.temperature = wanted.temperature,
                                         .top_k = wanted.top_k,
                                         .top_p = wanted.top_p,
                                         .min_p = wanted.min_p,
                                         .repetition_penalty = wanted.repetition_penalty,
                                         .presence_penalty = wanted.presence_penalty,
                                         .frequency_penalty = wanted.frequency_penalty,
                                         .logit_bias = {},
                                         .seed = wanted.seed};
    *sampler = new krait_sampler{model->shared, runtime::Sampler(choice, model->shared->drawable())};
    return {};
  });
}

void krait_sampler_free(krait_sampler* sampler) { delete sampler; }

krait_status krait_sampler_fork(const krait_sampler* sampler, krait_sampler** fork) {
  clear(fork);
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{sampler, "sampler"}, {fork, "fork"}}));
    *fork = new krait_sampler(*sampler);
    return {};
  });
}

krait_status krait_sampler_observe(krait_sampler* sampler, const int32_t* ids, size_t count) {
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{sampler, "sampler"}, {ids, "ids", count == 0}}));
    KRAIT_TRY(sampler->model->check_ids({ids, count}));
    // Those that are never chosen need no penalty, and a saved sampler has no counts of them.
    std::vector<TokenId> drawable;
    std::ranges::copy_if(std::span(ids, count), std::back_inserter(drawable),
                         [&](TokenId id) { return id < sampler->model->drawable(); });
    sampler->sampler.observe_prompt(drawable);
    return {};
  });
}

krait_status krait_sampler_choose(krait_sampler* sampler, const float* logits, size_t count, int32_t* id) {
  if (id != nullptr) *id = -1;
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{sampler, "sampler"}, {logits, "logits"}, {id, "id"}}));
    const std::span all(logits, count);
    const auto usable = all.first(std::min(count, static_cast<std::size_t>(sampler->model->drawable())));
    // A NaN is not above either, and is never chosen.
    if (std::ranges::none_of(usable, [](float x) { return x > -std::numeric_limits<float>::infinity(); })) {
      return fail(ErrorCode::kInvalidArgument, "[api] none of {} logits leaves a token to choose", count);
    }
    *id = sampler->sampler.sample(all);
    return {};
  });
}

krait_status krait_session_sample(const krait_session* session, krait_sampler* sampler, int32_t* id) {
  if (id != nullptr) *id = -1;
  const krait_status status = guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{session, "session"}, {sampler, "sampler"}}));
    if (session->model != sampler->model) {
      return fail(ErrorCode::kInvalidArgument, "[api] the sampler was made for another model than the session's");
    }
    return {};
  });
  if (status != KRAIT_OK) return status;
  const float* logits = nullptr;
  size_t count = 0;
  const krait_status known = krait_session_logits(session, &logits, &count);
  return known == KRAIT_OK ? krait_sampler_choose(sampler, logits, count, id) : known;
}
