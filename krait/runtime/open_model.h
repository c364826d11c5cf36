// From paths to an engine and a tokenizer, and what states of the two belong to.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>

#include "krait/core/error.h"
#include "krait/formats/state_file.h"
#include "krait/formats/tokenizer.h"
#include "krait/formats/weight_source.h"
#include "krait/models/registry.h"
#include "krait/runtime/engine.h"

namespace krait::runtime {

// Loading a model that does not fit would end in the system's out-of-memory killer, which says nothing.
struct MemoryShortfall {
  std::uint64_t needed = 0;
  std::uint64_t available = 0;
  std::uint64_t needed_as_int4 = 0;
};
// Nothing when the weights fit, are used in place, or the system does not say what is left.
std::optional<MemoryShortfall> memory_shortfall(const std::shared_ptr<const formats::WeightSource>& source,
                                                const models::LoadOptions& options);

// The models that come with krait; the first is the one that is taken where none is named.
inline constexpr std::string_view kBundledModels[] = {"tales", "tales-m3"};
// Where one of them is, above a program or library of krait's: in the install prefix (share/krait/models) or in the
// source tree round the build folder (models).
std::optional<std::filesystem::path> bundled_model_near(const std::filesystem::path& binary,
                                                        std::string_view name = kBundledModels[0]);

// Options as people write them: "int8-block32", "bf16"; empty: as in the file, and f32.
Result<models::LoadOptions> load_options(std::string_view weights, std::string_view state_dtype,
                                         std::string_view kv_dtype);

class OpenedModel {
 public:
  // kResourceExhausted for a model that does not fit.
  static Result<OpenedModel> open(const std::filesystem::path& path, const models::LoadOptions& options = {},
                                  const EngineOptions& engine = {});
  static Result<OpenedModel> open(std::shared_ptr<const formats::WeightSource> source,
                                  const models::LoadOptions& options, const EngineOptions& engine);

  // From a folder or file; without a call there is none.
  Result<void> open_tokenizer(const std::filesystem::path& path);

  Engine& engine() const { return *engine_; }
  // For those who keep no states: lets go of everything else.
  std::unique_ptr<Engine> take_engine() && { return std::move(engine_); }
  const formats::Tokenizer* tokenizer() const { return tokenizer_.get(); }

  // Reads the whole checkpoint the first time.
  Result<formats::StateIdentity> identity();

 private:
  std::shared_ptr<const formats::WeightSource> source_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<formats::Tokenizer> tokenizer_;
  std::optional<formats::StateIdentity> identity_;
};

}  // namespace krait::runtime
