#include "krait/runtime/open_model.h"

#include <tuple>

#include "krait/core/available_memory.h"
#include "krait/formats/content_identity.h"

namespace krait::runtime {

std::optional<MemoryShortfall> memory_shortfall(const std::shared_ptr<const formats::WeightSource>& source,
                                                const models::LoadOptions& options) {
  const auto available = available_memory();
  if (!available || options.in_place) return std::nullopt;
  models::LoadOptions shapes = options;
  shapes.shapes_only = true;
  const auto needed = [&] {
    const auto model = models::load_model(source, shapes);
    return model ? (*model)->info().weight_bytes : 0;
  };
  MemoryShortfall shortfall{.needed = needed(), .available = *available};
  if (shortfall.needed <= shortfall.available) return std::nullopt;
  shapes.weights = kernels::parse_panel_format("int4");
  shortfall.needed_as_int4 = needed();
  return shortfall;
}

std::optional<std::filesystem::path> bundled_model_near(const std::filesystem::path& binary, std::string_view name) {
  std::error_code ignored;
  // bin/krait and lib/libkrait.so have the prefix two levels up, lib/x86_64-linux-gnu/libkrait.so three;
  // build/<preset>/krait/cli/krait has the source tree five levels up.
  std::filesystem::path folder = binary.parent_path();
  for (int level = 0; level < 6 && !folder.empty(); ++level, folder = folder.parent_path()) {
    for (const char* place : {"share/krait/models", "models"}) {
      if (std::filesystem::exists(folder / place / name / "config.json", ignored)) return folder / place / name;
    }
    if (folder == folder.root_path()) break;
  }
  return std::nullopt;
}

Result<models::LoadOptions> load_options(std::string_view weights, std::string_view state_dtype,
                                         std::string_view kv_dtype) {
  models::LoadOptions options;
  if (!weights.empty()) {
    options.weights = kernels::parse_panel_format(weights);
    if (!options.weights) {
      return fail(ErrorCode::kInvalidArgument, "[model] there is no format of weights \"{}\"", weights);
    }
  }
  for (const auto& [name, dtype, what] :
       {std::tuple{state_dtype, &options.state_dtype, "states"}, {kv_dtype, &options.kv_dtype, "keys and values"}}) {
    if (name.empty()) continue;
    if (name != "f32" && name != "bf16" && name != "int8") {
      return fail(ErrorCode::kInvalidArgument, "[model] {} are kept as f32, bf16 or int8, not \"{}\"", what, name);
    }
    *dtype = name == "int8" ? DType::kI8 : *parse_dtype(name);
  }
  return options;
}

Result<OpenedModel> OpenedModel::open(const std::filesystem::path& path, const models::LoadOptions& options,
                                      const EngineOptions& engine) {
  KRAIT_ASSIGN(std::shared_ptr<const formats::WeightSource> source, formats::open_weights(path));
  if (const auto shortfall = memory_shortfall(source, options)) {
    return fail(ErrorCode::kResourceExhausted,
                "[model] the weights need {} bytes of memory and {} are left; as int4 they would need {} ({})",
                shortfall->needed, shortfall->available, shortfall->needed_as_int4, source->origin());
  }
  return open(std::move(source), options, engine);
}

Result<OpenedModel> OpenedModel::open(std::shared_ptr<const formats::WeightSource> source,
                                      const models::LoadOptions& options, const EngineOptions& engine) {
  KRAIT_ASSIGN(auto model, models::load_model(source, options));
  OpenedModel opened;
  opened.engine_ = std::make_unique<Engine>(std::move(model), engine);
  opened.source_ = std::move(source);
  return opened;
}

Result<void> OpenedModel::open_tokenizer(const std::filesystem::path& path) {
  KRAIT_ASSIGN(tokenizer_, formats::open_tokenizer(path));
  identity_.reset();
  return {};
}

Result<formats::StateIdentity> OpenedModel::identity() {
  if (!identity_) {
    formats::StateIdentity identity;
    identity.architecture = engine_->model().info().architecture;
    identity.weights = kernels::to_string(engine_->model().info().weights);
    KRAIT_ASSIGN(identity.model, formats::weights_identity(*source_, engine_->pool()));
    if (tokenizer_) identity.tokenizer = formats::tokenizer_identity(*tokenizer_);
    identity_ = std::move(identity);
  }
  return *identity_;
}

}  // namespace krait::runtime
