#include "krait/cli/open_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "krait/cli/command.h"
#include "krait/cli/terminal.h"

namespace krait::cli {

namespace fs = std::filesystem;

const std::vector<std::string> kWeightFormats = {
    "f32", "bf16", "f16", "int8", "int8-block32", "int4", "int4-zero", "int4-group128", "int4-group128-zero"};

void ModelOptions::add_model(CLI::App& command) {
  command
      .add_option("-m,--model", model,
                  fmt::format("Model folder, .gguf or weight file, or one that comes with krait: {} (default: {})",
                              fmt::join(runtime::kBundledModels, ", "), runtime::kBundledModels[0]))
      ->type_name("PATH");
}

void ModelOptions::add_engine(CLI::App& command) {
  command
      .add_option("--weights,--dtype", weights,
                  "Keep weight matrices in this format, rounded at load where need be (default: as in the file)")
      ->check(CLI::IsMember(kWeightFormats))
      ->type_name("FORMAT");
  add_state_dtypes(command);
  command.add_flag("--in-place", in_place,
                   "Use 16- and 32-bit weights where the file has them: slower, but no copy in memory");
  command.add_flag("--exact-activations", exact_activations,
                   "Multiply GGUF weights with f32 activations (default: rounded as llama.cpp does)");
  command.add_option("-t,--threads", threads, "Threads (default: one for each core)")
      ->check(CLI::Range(1, 1024))
      ->type_name("T");
}

void ModelOptions::add_state_dtypes(CLI::App& command) {
  command.add_option("--state-dtype", state_dtype, "Keep the states of sequences as f32, bf16 or int8 (default: f32)")
      ->check(CLI::IsMember({"f32", "bf16", "int8"}))
      ->type_name("TYPE");
  command.add_option("--kv-dtype", kv_dtype, "Keep keys and values of attention as f32, bf16 or int8 (default: f32)")
      ->check(CLI::IsMember({"f32", "bf16", "int8"}))
      ->type_name("TYPE");
}

void ModelOptions::add_tokenizer(CLI::App& command) {
  command
      .add_option("--tokenizer", tokenizer,
                  "Folder or file of the tokenizer (default: the model's own; the original Mamba checkpoints have none "
                  "and use that of EleutherAI/gpt-neox-20b)")
      ->type_name("PATH");
}

fs::path ModelOptions::path() const {
  if (model.empty()) return bundled_model(runtime::kBundledModels[0]);
  // A folder of that name comes first.
  std::error_code ignored;
  const bool bundled = std::ranges::find(runtime::kBundledModels, model) != std::end(runtime::kBundledModels);
  return bundled && !fs::exists(model, ignored) ? bundled_model(model) : fs::path(model);
}

models::LoadOptions ModelOptions::load_options() const {
  models::LoadOptions options = value_or_throw(runtime::load_options(weights, state_dtype, kv_dtype));
  options.in_place = in_place;
  options.exact_activations = exact_activations;
  return options;
}

fs::path bundled_model(std::string_view name) {
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  if (auto path = runtime::bundled_model_near(program, name)) return *std::move(path);
  throw CommandError(fmt::format("the bundled model {} is not beside the program ({}): name a model's path with -m",
                                 name, program.string()));
}

runtime::OpenedModel open_model(const ModelOptions& options, std::int64_t prefill_chunk) {
  std::shared_ptr<const formats::WeightSource> source = value_or_throw(formats::open_weights(options.path()));
  if (const auto shortfall = runtime::memory_shortfall(source, options.load_options())) {
    throw CommandError(fmt::format(
        "the weights need {} of memory and {} are left; with --weights int4 they would need {}{} ({})",
        bytes_text(shortfall->needed), bytes_text(shortfall->available), bytes_text(shortfall->needed_as_int4),
        source->format() == "gguf" ? "" : ", with --in-place nothing, at a lower speed", source->origin()));
  }
  return value_or_throw(runtime::OpenedModel::open(
      std::move(source), options.load_options(),
      {.threads = options.threads, .prefill_chunk = prefill_chunk, .state_memory = options.state_memory}));
}

std::unique_ptr<runtime::Engine> open_engine(const ModelOptions& options, std::int64_t prefill_chunk) {
  return open_model(options, prefill_chunk).take_engine();
}

namespace {

fs::path tokenizer_place(const ModelOptions& options) {
  return options.tokenizer.empty() ? options.path() : fs::path(options.tokenizer);
}

[[noreturn]] void fail_without_tokenizer(const ModelOptions& options, const Error& error) {
  const bool own = options.tokenizer.empty() && error.code == ErrorCode::kNotFound;
  throw CommandError(own ? fmt::format("{}; name one with --tokenizer", error.message) : error.message);
}

}  // namespace

runtime::OpenedModel open_model_with_tokenizer(const ModelOptions& options, std::int64_t prefill_chunk) {
  runtime::OpenedModel model = open_model(options, prefill_chunk);
  if (const auto opened = model.open_tokenizer(tokenizer_place(options)); !opened) {
    fail_without_tokenizer(options, opened.error());
  }
  return model;
}

std::unique_ptr<formats::Tokenizer> open_tokenizer_of(const ModelOptions& options) {
  auto tokenizer = formats::open_tokenizer(tokenizer_place(options));
  if (!tokenizer) fail_without_tokenizer(options, tokenizer.error());
  return *std::move(tokenizer);
}

void TextInput::add(CLI::App& command, const std::string& what) {
  auto* argument = command.add_option("text", text, what)->type_name("TEXT");
  command.add_option("-f,--file", file, what + ", from a file (- is standard input)")
      ->type_name("FILE")
      ->excludes(argument);
}

std::string TextInput::read() const { return text.empty() ? read_file(file.empty() ? "-" : file) : text; }

InputFile open_input(const std::string& path) {
  InputFile file(path == "-" ? stdin : std::fopen(path.c_str(), "rb"));
  if (!file) throw CommandError(fmt::format("cannot open {}: {}", path, std::strerror(errno)));
  return file;
}

std::string read_file(const std::string& path) {
  const InputFile file = open_input(path);
  std::string content;
  char buffer[1 << 16];
  std::size_t got = 0;
  while ((got = std::fread(buffer, 1, sizeof(buffer), file.get())) > 0) content.append(buffer, got);
  if (std::ferror(file.get()) != 0) throw CommandError(fmt::format("cannot read {}: {}", path, std::strerror(errno)));
  return content;
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream stream(path, std::ios::binary);
  stream << text;
  if (!stream.flush()) throw CommandError(fmt::format("cannot write {}", path.string()));
}

}  // namespace krait::cli
