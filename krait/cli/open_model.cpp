#include "krait/cli/open_model.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "krait/cli/command.h"
#include "krait/cli/terminal.h"
#include "krait/core/available_memory.h"

namespace krait::cli {

namespace fs = std::filesystem;

const std::vector<std::string> kWeightFormats = {
    "f32", "bf16", "f16", "int8", "int8-block32", "int4", "int4-zero", "int4-group128", "int4-group128-zero"};

void ModelOptions::add_model(CLI::App& command) {
  command.add_option("-m,--model", model, "Model folder, .gguf or weight file (default: the bundled tales model)")
      ->type_name("PATH");
}

void ModelOptions::add_engine(CLI::App& command) {
  command
      .add_option("--weights,--dtype", weights,
                  "Keep weight matrices in this format, rounded at load where need be (default: as in the file)")
      ->check(CLI::IsMember(kWeightFormats))
      ->type_name("FORMAT");
  command.add_option("--state-dtype", state_dtype, "Keep the states of sequences as f32, bf16 or int8 (default: f32)")
      ->check(CLI::IsMember({"f32", "bf16", "int8"}))
      ->type_name("TYPE");
  command.add_option("--kv-dtype", kv_dtype, "Keep keys and values of attention as f32, bf16 or int8 (default: f32)")
      ->check(CLI::IsMember({"f32", "bf16", "int8"}))
      ->type_name("TYPE");
  command.add_flag("--in-place", in_place,
                   "Use 16- and 32-bit weights where the file has them: slower, but no copy in memory");
  command.add_flag("--exact-activations", exact_activations,
                   "Multiply GGUF weights with f32 activations (default: rounded as llama.cpp does)");
  command.add_option("-t,--threads", threads, "Threads (default: one for each core)")
      ->check(CLI::Range(1, 1024))
      ->type_name("T");
}

void ModelOptions::add_tokenizer(CLI::App& command) {
  command
      .add_option("--tokenizer", tokenizer,
                  "Folder or file of the tokenizer (default: the model's own; the original Mamba checkpoints have none "
                  "and use that of EleutherAI/gpt-neox-20b)")
      ->type_name("PATH");
}

fs::path ModelOptions::path() const { return model.empty() ? bundled_model() : fs::path(model); }

models::LoadOptions ModelOptions::load_options() const {
  models::LoadOptions options;
  if (!weights.empty()) options.weights = kernels::parse_panel_format(weights);
  options.in_place = in_place;
  options.exact_activations = exact_activations;
  const auto dtype = [](const std::string& name) { return name == "int8" ? DType::kI8 : *parse_dtype(name); };
  if (!state_dtype.empty()) options.state_dtype = dtype(state_dtype);
  if (!kv_dtype.empty()) options.kv_dtype = dtype(kv_dtype);
  return options;
}

fs::path bundled_model() {
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  // bin/krait has the prefix two levels up; build/<preset>/krait/cli/krait has the source tree five levels up.
  fs::path folder = program.parent_path();
  for (int level = 0; level < 6 && !folder.empty(); ++level, folder = folder.parent_path()) {
    for (const char* place : {"share/krait/models/tales", "models/tales"}) {
      if (fs::exists(folder / place / "config.json", ignored)) return folder / place;
    }
    if (folder == folder.root_path()) break;
  }
  throw CommandError(
      fmt::format("the bundled model is not beside the program ({}): name a model with -m", program.string()));
}

namespace {

// Loading would end in the system's out-of-memory killer, which says nothing.
void check_that_it_fits(const std::shared_ptr<const formats::WeightSource>& source, models::LoadOptions options) {
  const auto available = available_memory();
  if (!available || options.in_place) return;
  options.shapes_only = true;
  const auto needed = [&] {
    const auto model = models::load_model(source, options);
    return model ? (*model)->info().weight_bytes : 0;
  };
  const std::uint64_t bytes = needed();
  if (bytes <= *available) return;
  options.weights = kernels::parse_panel_format("int4");
  throw CommandError(
      fmt::format("the weights need {} of memory and {} are left; with --weights int4 they would need {}{} ({})",
                  bytes_text(bytes), bytes_text(*available), bytes_text(needed()),
                  source->format() == "gguf" ? "" : ", with --in-place nothing, at a lower speed", source->origin()));
}

}  // namespace

std::unique_ptr<runtime::Engine> open_engine(const ModelOptions& options, std::int64_t prefill_chunk) {
  std::shared_ptr<const formats::WeightSource> source = value_or_throw(formats::open_weights(options.path()));
  check_that_it_fits(source, options.load_options());
  auto model = value_or_throw(models::load_model(std::move(source), options.load_options()));
  return std::make_unique<runtime::Engine>(std::move(model), runtime::EngineOptions{options.threads, prefill_chunk});
}

std::unique_ptr<formats::Tokenizer> open_tokenizer_of(const ModelOptions& options) {
  const fs::path path = options.tokenizer.empty() ? options.path() : fs::path(options.tokenizer);
  auto tokenizer = formats::open_tokenizer(path);
  if (!tokenizer && options.tokenizer.empty() && tokenizer.error().code == ErrorCode::kNotFound) {
    throw CommandError(fmt::format("{}; name one with --tokenizer", tokenizer.error().message));
  }
  return value_or_throw(std::move(tokenizer));
}

void TextInput::add(CLI::App& command, const std::string& what) {
  auto* argument = command.add_option("text", text, what)->type_name("TEXT");
  command.add_option("-f,--file", file, what + ", from a file (- is standard input)")
      ->type_name("FILE")
      ->excludes(argument);
}

std::string TextInput::read() const { return text.empty() ? read_file(file.empty() ? "-" : file) : text; }

std::string read_file(const std::string& path) {
  const bool standard_input = path == "-";
  std::FILE* stream = standard_input ? stdin : std::fopen(path.c_str(), "rb");
  if (stream == nullptr) throw CommandError(fmt::format("cannot open {}: {}", path, std::strerror(errno)));
  std::string content;
  char buffer[1 << 16];
  std::size_t got = 0;
  while ((got = std::fread(buffer, 1, sizeof(buffer), stream)) > 0) content.append(buffer, got);
  const bool failed = std::ferror(stream) != 0;
  const int reason = errno;
  if (!standard_input) std::fclose(stream);
  if (failed) throw CommandError(fmt::format("cannot read {}: {}", path, std::strerror(reason)));
  return content;
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream stream(path, std::ios::binary);
  stream << text;
  if (!stream.flush()) throw CommandError(fmt::format("cannot write {}", path.string()));
}

}  // namespace krait::cli
