// krait convert: a checkpoint in another format.
#include <fmt/format.h>

#include <filesystem>

#include "krait/cli/command.h"
#include "krait/cli/open_model.h"
#include "krait/cli/terminal.h"
#include "krait/formats/gguf_writer.h"
#include "krait/models/gguf_checkpoint.h"

namespace krait::cli {
namespace {

namespace fs = std::filesystem;

struct ConvertOptions {
  std::string in, out;
  bool force = false;
};

int convert(const ConvertOptions& options) {
  const fs::path out = options.out;
  if (out.extension() != ".gguf") {
    throw CommandError(fmt::format("{} is no .gguf file: that is the one format that can be written", out.string()));
  }
  if (fs::exists(out) && !options.force) {
    throw CommandError(fmt::format("{} is there already; --force replaces it", out.string()));
  }
  std::shared_ptr<const formats::WeightSource> source = value_or_throw(formats::open_weights(options.in));
  const auto gguf = value_or_throw(models::as_gguf(std::move(source)));
  formats::Config metadata = gguf->config();
  metadata.set("general.name", fs::absolute(options.in).filename().string());
  // llama.cpp wants to be told that there is no vocabulary.
  metadata.set("tokenizer.ggml.model", std::string("none"));
  std::vector<formats::NamedTensor> tensors;
  std::uint64_t bytes = 0;
  for (const formats::TensorInfo& tensor : gguf->tensors()) {
    tensors.push_back({tensor.name, value_or_throw(gguf->view(tensor.name))});
    bytes += tensor.bytes;
  }
  value_or_throw(formats::write_gguf(out, tensors, metadata));
  fmt::print("{}: {} with {} tensors, {}\n", out.string(), metadata.text("general.architecture").value_or(""),
             tensors.size(), bytes_text(bytes));
  return 0;
}

}  // namespace

void add_convert(CLI::App& program, int& status) {
  auto options = std::make_shared<ConvertOptions>();
  CLI::App* command = program.add_subcommand("convert", "Write a model as GGUF, for llama.cpp");
  command->add_option("in", options->in, "Folder or weight file in transformers' layout")
      ->required()
      ->type_name("MODEL");
  command->add_option("out", options->out, "The .gguf file")->required()->type_name("OUT.gguf");
  command->add_flag("--force", options->force, "Replace the file if it is there");
  command->footer(
      "Architectures: mamba, mamba2, jamba, nemotron_h, bamba, granitemoehybrid, falcon_h1, lfm2, qwen3_next.\n"
      "The vocabulary stays behind: name the model's tokenizer with --tokenizer.\n"
      "Examples:\n"
      "  krait convert granite-4.0-h-350m granite.gguf\n"
      "  krait run -m granite.gguf --tokenizer granite-4.0-h-350m Hello");
  command->callback([options, &status] { status = convert(*options); });
}

}  // namespace krait::cli
