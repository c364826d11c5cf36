// docs/models.md is what the registry and the models themselves say; this test fails when the page says otherwise.
// KRAIT_UPDATE_PAGES=1 in the environment writes the page anew.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "krait/models/gguf_checkpoint.h"
#include "krait/models/registry.h"
#include "tests/support/tiny_models.h"

namespace krait::tests {
namespace {

using models::SyntheticShape;

// The tiny model of an architecture; those of GGUF and of experts are the same model under another name.
const SyntheticShape& tiny_of(std::string_view architecture) {
  std::string_view name = architecture;
  if (name == "nemotron_h_moe") name = "nemotron_h";
  if (name == "granitehybrid") name = "granitemoehybrid";
  if (name == "falcon-h1") name = "falcon_h1";
  if (name == "qwen3next" || name == "qwen3_5_moe") name = "qwen3_next";
  const auto* found = std::ranges::find(kTinyModels, name, &SyntheticShape::architecture);
  if (found == std::end(kTinyModels)) throw std::runtime_error("no tiny model of " + std::string(architecture));
  return *found;
}

std::unique_ptr<models::Model> load(const SyntheticShape& shape, const models::LoadOptions& options) {
  auto model = models::load_model(models::make_synthetic(shape, DType::kF32, 7), options);
  return model ? *std::move(model) : nullptr;
}

std::string state_dtypes(const SyntheticShape& shape) {
  std::string names;
  for (const auto& [dtype, name] : {std::pair{DType::kF32, "f32"}, {DType::kBF16, "bf16"}, {DType::kI8, "int8"}}) {
    models::LoadOptions options;
    options.state_dtype = dtype;
    if (load(shape, options) == nullptr) continue;
    names += names.empty() ? name : fmt::format(", {}", name);
  }
  return names;
}

std::string growth(const SyntheticShape& shape) {
  const auto model = load(shape, {});
  bool ring = false;
  for (const models::StateTensor& tensor : model->state_layout().tensors()) {
    ring = ring || (tensor.kind == models::StateKind::kKv && !tensor.paged);
  }
  if (model->state_layout().page_bytes() > 0)
    return ring ? "keys and values, windows and pages" : "keys and values in pages";
  return ring ? "fixed, windows of keys and values" : "fixed";
}

std::string low_bits(const SyntheticShape& shape) {
  for (const char* format : {"int8", "int4"}) {
    models::LoadOptions options;
    options.weights = kernels::parse_panel_format(format);
    if (load(shape, options) == nullptr) return "no";
  }
  return "all";
}

std::string conversions(const SyntheticShape& shape, std::string_view name) {
  const auto gguf = models::as_gguf(models::make_synthetic(shape, DType::kF32, 7));
  if (!gguf) return "";
  const bool back = models::as_transformers(*gguf).has_value();
  if (shape.architecture == name) return back ? "to GGUF and back" : "to GGUF";
  return back && (*gguf)->config().text("general.architecture").value_or("") == name ? "from GGUF" : "";
}

std::string page() {
  std::ostringstream out;
  out << "# Models\n\n"
         "Every model prefills in chunks of any size, decodes step by step and in batches with others, and forks; "
         "that\n"
         "all of these give the same state is tested for each (tests/models/state_law_test.cpp). Keys and values may "
         "be\n"
         "kept as f32, bf16 or int8 (`--kv-dtype`). A test makes this page from the registry and from the models.\n\n"
         "| architecture | models | checkpoints | state grows | state dtypes | quantised weights | `krait convert` | "
         "verified against | not there |\n"
         "|---|---|---|---|---|---|---|---|---|\n";
  for (const models::ArchitectureFacts& facts : models::architecture_facts()) {
    const SyntheticShape& shape = tiny_of(facts.name);
    out << fmt::format("| `{}` | {} | {} | {} | {} | {} | {} | {} | {} |\n", facts.name, facts.models,
                       facts.checkpoints, growth(shape), state_dtypes(shape), low_bits(shape),
                       conversions(shape, facts.name), facts.verified, facts.limits);
  }
  return std::move(out).str();
}

TEST(ModelsPage, IsWhatTheModelsSay) {
  const std::string path = std::string(KRAIT_SOURCE_DIR) + "/docs/models.md";
  const std::string expected = page();
  if (std::getenv("KRAIT_UPDATE_PAGES") != nullptr) std::ofstream(path) << expected;
  std::ostringstream actual;
  actual << std::ifstream(path).rdbuf();
  EXPECT_EQ(actual.str(), expected) << "KRAIT_UPDATE_PAGES=1 writes " << path << " anew";
}

}  // namespace
}  // namespace krait::tests
