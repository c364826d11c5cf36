// Models of the C interface: opening, facts, where the bundled one is.
#include <dlfcn.h>

#include "krait/api/error_text.h"
#include "krait/api/shared_model.h"
#include "krait/api/sized_struct.h"

using namespace krait;
using namespace krait::api;

krait_status krait_model_open(const char* path, const krait_model_options* options, krait_model** model) {
  clear(model);
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{path, "path"}, {model, "model"}}));
    constexpr std::size_t kFirstSize = 56;
    static_assert(sizeof(krait_model_options) == kFirstSize);
    KRAIT_ASSIGN(const krait_model_options wanted,
                 read_options<krait_model_options>(options, KRAIT_MODEL_OPTIONS, kFirstSize, "krait_model_options"));
    KRAIT_ASSIGN(auto shared, SharedModel::open(path, wanted));
    *model = new krait_model{std::move(shared)};
    return {};
  });
}

void krait_model_free(krait_model* model) { delete model; }

krait_status krait_bundled_model(char** path) {
  clear(path);
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{path, "path"}}));
    Dl_info library{};
    if (::dladdr(reinterpret_cast<const void*>(&krait_bundled_model), &library) == 0 || library.dli_fname == nullptr) {
      return fail(ErrorCode::kNotFound, "[api] the system does not say where the library is");
    }
    std::error_code ignored;
    const std::filesystem::path place = std::filesystem::canonical(library.dli_fname, ignored);
    const auto found = runtime::bundled_model_near(place);
    if (!found) return fail(ErrorCode::kNotFound, "[api] the bundled model is not beside {}", library.dli_fname);
    *path = give(found->string()).release();
    return {};
  });
}

krait_status krait_model_describe(const krait_model* model, krait_model_facts* facts) {
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{model, "model"}, {facts, "facts"}}));
    SharedModel& shared = *model->shared;
    const models::ModelInfo& info = shared.info();
    const runtime::StatePool& states = shared.engine().states();
    krait_model_facts known = KRAIT_MODEL_FACTS;
    known.architecture = info.architecture.c_str();
    known.weights = shared.weights().c_str();
    known.layers = info.layers;
    known.width = info.width;
    known.vocabulary = info.vocabulary;
    known.tokenizer_size = shared.tokenizer() == nullptr ? 0 : shared.tokenizer()->size();
    known.parameters = info.parameters;
    known.weight_bytes = info.weight_bytes;
    known.state_bytes = states.bytes_per_state();
    known.growth_bytes = states.page_bytes();
    known.states_that_fit = states.capacity();
    known.states_in_use = states.states_in_use();
    constexpr std::size_t kFirstSize = 104;
    static_assert(sizeof(krait_model_facts) == kFirstSize);
    return write_facts(*facts, known, kFirstSize, "krait_model_facts");
  });
}

krait_status krait_model_end_ids(const krait_model* model, const int32_t** ids, size_t* count) {
  clear(ids, count);
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{model, "model"}, {ids, "ids"}, {count, "count"}}));
    *ids = model->shared->end_ids().data();
    *count = model->shared->end_ids().size();
    return {};
  });
}
