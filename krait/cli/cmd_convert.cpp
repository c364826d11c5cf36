// krait convert: a model in another format, its vocabulary with it.
#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "krait/cli/command.h"
#include "krait/cli/open_model.h"
#include "krait/cli/terminal.h"
#include "krait/formats/gguf_writer.h"
#include "krait/formats/safetensors_writer.h"
#include "krait/formats/tokenizer_conversion.h"
#include "krait/models/gguf_checkpoint.h"

namespace krait::cli {
namespace {

namespace fs = std::filesystem;
using Source = std::shared_ptr<const formats::WeightSource>;

struct ConvertOptions {
  std::string in, out;
  std::string dtype;
  bool force = false;
};

void note(const std::string& text) { fmt::print(stderr, "note: {}\n", text); }

void note_losses(const std::vector<std::string>& losses) {
  for (const std::string& loss : losses) note("not in the new vocabulary: " + loss);
}

std::uint64_t tensor_bytes(const formats::WeightSource& source) {
  std::uint64_t bytes = 0;
  for (const formats::TensorInfo& tensor : source.tensors()) bytes += tensor.bytes;
  return bytes;
}

// A bar for bytes written, which Ctrl-C stops.
formats::WriteProgress progress_of(std::optional<Progress>& bar) {
  return [&bar](std::uint64_t done, std::uint64_t total) {
    if (!bar) bar.emplace("writing", static_cast<std::int64_t>(total), "bytes");
    bar->update(static_cast<std::int64_t>(done));
    return !InterruptGuard::interrupted();
  };
}

// The keys of the vocabulary beside a checkpoint, or those that say there is none.
void add_vocabulary(formats::Config& metadata, const fs::path& in, std::int64_t rows) {
  const fs::path folder = fs::is_directory(in) ? in : in.parent_path();
  const auto vocabulary = formats::vocabulary_to_gguf(folder.empty() ? fs::path(".") : folder, rows);
  if (!vocabulary) {
    if (vocabulary.error().code != ErrorCode::kNotFound && vocabulary.error().code != ErrorCode::kUnsupported) {
      throw CommandError(vocabulary.error().message);
    }
    note("the file has no vocabulary: " + vocabulary.error().message);
    // llama.cpp wants to be told so.
    metadata.set("tokenizer.ggml.model", std::string("none"));
    return;
  }
  for (const auto& [key, value] : vocabulary->keys.values()) metadata.set(key, value);
  note_losses(vocabulary->losses);
}

Result<void> to_gguf(const ConvertOptions& options, const Source& source) {
  const fs::path out = options.out;
  if (!options.dtype.empty()) {
    throw CommandError(
        fmt::format("--dtype {} is for a folder; a .gguf keeps the dtype of the matrices", options.dtype));
  }
  const Source gguf = value_or_throw(models::as_gguf(source));
  formats::Config metadata = gguf->config();
  metadata.set("general.name", fs::absolute(options.in).filename().string());
  add_vocabulary(metadata, options.in, gguf->find("token_embd.weight")->shape.front());
  std::optional<Progress> bar;
  KRAIT_TRY(formats::write_gguf(out, *gguf, metadata, progress_of(bar)));
  bar.reset();
  fmt::print("{}: {} with {} tensors, {}, vocabulary: {}\n", out.string(),
             metadata.text("general.architecture").value_or(""), gguf->tensors().size(),
             bytes_text(tensor_bytes(*gguf)), metadata.text("tokenizer.ggml.model").value_or("none"));
  return {};
}

Result<void> to_folder(const ConvertOptions& options, const Source& source) {
  const fs::path out = options.out;
  const std::optional<DType> dtype = options.dtype == "f32"    ? std::optional(DType::kF32)
                                     : options.dtype == "bf16" ? std::optional(DType::kBF16)
                                     : options.dtype == "f16"  ? std::optional(DType::kF16)
                                                               : std::nullopt;
  const Source made = value_or_throw(models::as_transformers(source, dtype));
  const auto vocabulary = formats::vocabulary_from_gguf(source->config());
  std::optional<Progress> bar;
  KRAIT_TRY(formats::write_safetensors(out / "model.safetensors", *made, {{"format", "pt"}}, progress_of(bar)));
  bar.reset();
  KRAIT_ASSIGN(const std::string config, made->config().to_json());
  write_file(out / "config.json", config);
  if (vocabulary) {
    write_file(out / "tokenizer.json", vocabulary->tokenizer);
    write_file(out / "tokenizer_config.json", vocabulary->config);
    note_losses(vocabulary->losses);
  } else {
    note("the folder has no tokenizer.json: " + vocabulary.error().message);
  }
  fmt::print("{}: config.json, model.safetensors{}: {} with {} tensors, {}\n", out.string(),
             vocabulary ? ", tokenizer.json, tokenizer_config.json" : "",
             made->config().text("model_type").value_or(""), made->tensors().size(), bytes_text(tensor_bytes(*made)));
  return {};
}

int convert(const ConvertOptions& options) {
  const fs::path out = options.out;
  const bool file = out.extension() == ".gguf";
  const Source source = value_or_throw(formats::open_weights(options.in));
  const bool is_gguf = source->format() == "gguf";
  if (file && is_gguf) throw CommandError(fmt::format("{} is a GGUF already", options.in));
  if (!file && !is_gguf) {
    throw CommandError(
        fmt::format("{} is no GGUF, and {} is no .gguf file: one of the two must be", options.in, out.string()));
  }
  const bool there = fs::exists(out);
  if (there && fs::is_directory(out) == file) {
    throw CommandError(fmt::format("{} is {}", out.string(), file ? "a folder" : "there already and not a folder"));
  }
  if (there && !options.force && (file || !fs::is_empty(out))) {
    throw CommandError(fmt::format("{} is there already; --force replaces it", out.string()));
  }
  const InterruptGuard guard;
  if (!file) fs::create_directories(out);
  Result<void> written;
  try {
    written = file ? to_gguf(options, source) : to_folder(options, source);
  } catch (...) {
    if (!file && !there) fs::remove_all(out);
    throw;
  }
  if (written) return 0;
  if (!file && !there) fs::remove_all(out);
  if (written.error().code == ErrorCode::kCancelled) return kInterruptedStatus;
  throw CommandError(written.error().message);
}

}  // namespace

void add_convert(CLI::App& program, int& status) {
  auto options = std::make_shared<ConvertOptions>();
  CLI::App* command = program.add_subcommand("convert", "Write a model as GGUF, or a GGUF as transformers has it");
  command->add_option("in", options->in, "Folder or weight file in transformers' layout, or a .gguf file")
      ->required()
      ->type_name("MODEL");
  command->add_option("out", options->out, "A .gguf file to write, else a folder")->required()->type_name("OUT");
  command
      ->add_option("--dtype", options->dtype,
                   "Of the matrices in a folder; without it f32, bf16 and f16 stay, and quantised ones become bf16")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->type_name("DTYPE");
  command->add_flag("--force", options->force, "Replace what is there");
  command->footer(
      "Architectures: mamba, falcon_mamba, mamba2, rwkv7, jamba, nemotron_h, bamba, granitemoehybrid, falcon_h1,\n"
      "lfm2, qwen3_next, in both directions.\n"
      "The vocabulary goes along where both formats have words for it; a note says when it does not.\n"
      "Examples:\n"
      "  krait convert granite-4.0-h-350m granite.gguf\n"
      "  krait convert granite.gguf granite-folder --dtype f32\n"
      "  krait run -m granite.gguf Hello");
  command->callback([options, &status] { status = convert(*options); });
}

}  // namespace krait::cli
