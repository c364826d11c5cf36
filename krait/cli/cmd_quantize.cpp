// krait quantize: a checkpoint with its weight matrices in few bits.
#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "krait/cli/command.h"
#include "krait/cli/open_model.h"
#include "krait/cli/terminal.h"
#include "krait/formats/safetensors_writer.h"
#include "krait/models/quantize_checkpoint.h"

namespace krait::cli {
namespace {

namespace fs = std::filesystem;

struct QuantizeOptions {
  ModelOptions model;
  std::string out;
  std::string weights = "int8";
};

// What stands beside the weights and goes along: the tokenizer and other small texts.
bool goes_along(const fs::path& file) {
  const std::string name = file.filename().string();
  if (name == "config.json" || name == "params.json" || name.ends_with(".index.json")) return false;
  const std::string extension = file.extension().string();
  return extension == ".json" || extension == ".model" || extension == ".txt" || extension == ".jinja";
}

std::uint64_t tensor_bytes(const formats::WeightSource& source) {
  std::uint64_t bytes = 0;
  for (const formats::TensorInfo& tensor : source.tensors()) bytes += tensor.bytes;
  return bytes;
}

int quantize(const QuantizeOptions& options) {
  const fs::path in = options.model.path();
  const fs::path folder = fs::is_directory(in) ? in : in.parent_path();
  const fs::path out = options.out;
  const auto format = *kernels::parse_panel_format(options.weights);
  std::shared_ptr<const formats::WeightSource> source = value_or_throw(formats::open_weights(in));
  if (fs::exists(out) && (!fs::is_directory(out) || !fs::is_empty(out))) {
    throw CommandError(fmt::format("{} is there already and not an empty folder", out.string()));
  }
  const bool made = fs::create_directories(out);
  const InterruptGuard guard;
  std::optional<Progress> bar;
  std::int64_t matrices = 0;
  const auto quantized = models::quantize_checkpoint(source, format, [&](std::int64_t done, std::int64_t total) {
    if (!bar) bar.emplace("quantizing", matrices = total, "matrices");
    bar->update(done);
    return !InterruptGuard::interrupted();
  });
  bar.reset();
  const Result<void> written =
      quantized ? formats::write_safetensors(out / "model.safetensors", **quantized, {{"format", "pt"}})
                : std::unexpected(quantized.error());
  if (!written) {
    if (made) fs::remove_all(out);
    if (InterruptGuard::interrupted()) return kInterruptedStatus;
    throw CommandError(written.error().message);
  }
  for (const auto& entry : fs::directory_iterator(folder.empty() ? fs::path(".") : folder)) {
    if (entry.is_regular_file() && goes_along(entry.path())) {
      fs::copy_file(entry.path(), out / entry.path().filename(), fs::copy_options::overwrite_existing);
    }
  }
  const fs::path config = fs::exists(folder / "config.json") ? folder / "config.json" : folder / "params.json";
  write_file(out / config.filename(), value_or_throw(models::quantized_config(read_file(config.string()), format)));
  fmt::print("{}: {} matrices as {}, {} -> {}\n", out.string(), matrices, options.weights,
             bytes_text(tensor_bytes(*source)), bytes_text(tensor_bytes(**quantized)));
  return 0;
}

}  // namespace

void add_quantize(CLI::App& program, int& status) {
  auto options = std::make_shared<QuantizeOptions>();
  CLI::App* command = program.add_subcommand("quantize", "Write a model with its weights in few bits");
  options->model.add_model(*command);
  command->add_option("-o,--output", options->out, "Folder of the new model")->required()->type_name("FOLDER");
  command->add_option("--weights", options->weights, "Format of the weight matrices")
      ->check(CLI::IsMember(std::vector<std::string>(kWeightFormats.begin() + 3, kWeightFormats.end())))
      ->type_name("FORMAT")
      ->capture_default_str();
  command->footer(
      "Examples:\n"
      "  krait quantize -m mamba-130m -o mamba-130m-int8\n"
      "  krait quantize -m mamba-130m -o mamba-130m-int4 --weights int4\n"
      "How much it costs:\n"
      "  krait eval -m mamba-130m-int4 -f book.txt --against mamba-130m");
  command->callback([options, &status] { status = quantize(*options); });
}

}  // namespace krait::cli
