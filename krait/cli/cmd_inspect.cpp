// krait inspect: what is in a checkpoint. Works on models that krait cannot run, as far as their files can be read.
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "krait/cli/command.h"
#include "krait/cli/open_model.h"
#include "krait/cli/terminal.h"
#include "krait/models/planned_source.h"

namespace krait::cli {
namespace {

struct InspectOptions {
  ModelOptions model;
  bool json = false;
};

// What the weights would take in memory in several formats.
nlohmann::json memory_by_format(const std::shared_ptr<const formats::WeightSource>& source) {
  nlohmann::json out;
  for (const char* format : {"", "bf16", "int8", "int4"}) {
    models::LoadOptions load;
    load.shapes_only = true;
    if (*format != '\0') load.weights = kernels::parse_panel_format(format);
    const auto model = models::load_model(source, load);
    if (model) out[*format == '\0' ? "as stored" : format] = (*model)->info().weight_bytes;
  }
  return out;
}

nlohmann::json describe(const formats::WeightSource& source, const Result<std::string>& architecture,
                        const models::Model* model, const std::string& problem) {
  nlohmann::json out;
  out["origin"] = source.origin();
  out["format"] = source.format();
  out["architecture"] = architecture ? nlohmann::json(*architecture) : nlohmann::json();
  std::map<std::string, std::uint64_t> dtypes;
  std::uint64_t file_bytes = 0;
  std::int64_t elements = 0;
  out["tensors"] = nlohmann::json::array();
  for (const formats::TensorInfo& tensor : source.tensors()) {
    out["tensors"].push_back(
        {{"name", tensor.name}, {"dtype", to_string(tensor.dtype)}, {"shape", tensor.shape}, {"bytes", tensor.bytes}});
    dtypes[std::string(to_string(tensor.dtype))] += tensor.bytes;
    file_bytes += tensor.bytes;
    elements += element_count(tensor.shape).value_or(0);
  }
  out["dtypes"] = dtypes;
  out["tensor_bytes"] = file_bytes;
  out["supported"] = model != nullptr;
  if (model == nullptr) {
    out["parameters"] = elements;
    out["problem"] = problem;
    return out;
  }
  const models::ModelInfo& info = model->info();
  out["architecture"] = info.architecture;
  out["parameters"] = info.parameters;
  out["layers"] = info.layers;
  out["width"] = info.width;
  out["vocabulary"] = info.vocabulary;
  out["state_bytes_per_sequence"] = model->state_layout().bytes();
  out["state_page_bytes"] = model->state_layout().page_bytes();
  out["state_page_tokens"] = models::StateLayout::kPageTokens;
  out["state"] = nlohmann::json::array();
  for (const models::StateTensor& tensor : model->state_layout().tensors()) {
    out["state"].push_back({{"name", tensor.name},
                            {"shape", tensor.shape},
                            {"dtype", to_string(tensor.dtype)},
                            {"kind", models::to_string(tensor.kind)},
                            {"paged", tensor.paged}});
  }
  return out;
}

void print_table(const nlohmann::json& about) {
  const Style style = Style::for_stream(stdout);
  const auto row = [&](std::string_view label, const std::string& value) {
    fmt::print("{}{:<14}{}{}\n", style.bold, label, style.reset, value);
  };
  const auto text = [](const nlohmann::json& value) {
    return value.is_string() ? value.get<std::string>() : value.dump();
  };
  row("checkpoint", fmt::format("{} ({})", text(about["origin"]), text(about["format"])));
  row("architecture", about["architecture"].is_null() ? "not named" : text(about["architecture"]));
  if (!about["weights_present"].get<bool>()) {
    row("", "its weights are not here: names and shapes are what the configuration asks for");
  }
  row("parameters", count_text(about["parameters"].get<std::int64_t>()));
  std::string dtypes;
  for (const auto& [name, bytes] : about["dtypes"].items()) {
    dtypes += fmt::format("{}{} {}", dtypes.empty() ? "" : ", ", name, bytes_text(bytes.get<std::uint64_t>()));
  }
  row("weights", dtypes);
  if (about["supported"].get<bool>()) {
    row("shape", fmt::format("{} layers of width {}, vocabulary {}", text(about["layers"]), text(about["width"]),
                             text(about["vocabulary"])));
    const auto page = about["state_page_bytes"].get<std::uint64_t>();
    const std::string fixed = bytes_text(about["state_bytes_per_sequence"].get<std::uint64_t>());
    if (page == 0) {
      row("state", fmt::format("{} for each sequence, whatever its length", fixed));
    } else {
      row("state", fmt::format("{} for each sequence, and {} for every {} tokens of it", fixed, bytes_text(page),
                               text(about["state_page_tokens"])));
    }
    std::string needs;
    for (const auto& [format, bytes] : about["memory"].items()) {
      needs += fmt::format("{}{} {}", needs.empty() ? "" : ", ", format, bytes_text(bytes.get<std::uint64_t>()));
    }
    row("memory", needs);
  } else {
    row("cannot run", text(about["problem"]));
  }
  std::size_t widest = 6;
  for (const auto& tensor : about["tensors"]) widest = std::max(widest, text(tensor["name"]).size());
  fmt::print("\n{}{:<{}}  {:<7} {:>10}  shape{}\n", style.bold, "tensor", widest, "dtype", "size", style.reset);
  for (const auto& tensor : about["tensors"]) {
    fmt::print("{:<{}}  {:<7} {:>10}  {}\n", text(tensor["name"]), widest, text(tensor["dtype"]),
               bytes_text(tensor["bytes"].get<std::uint64_t>()), tensor["shape"].dump());
  }
}

// The checkpoint, or what its configuration (and index) say it would be. `present`: whether its weights are there.
std::shared_ptr<const formats::WeightSource> open_or_plan(const std::filesystem::path& path, bool& present) {
  auto opened = formats::open_weights(path);
  present = opened.has_value();
  if (present) return *std::move(opened);
  std::error_code ignored;
  if (opened.error().code != ErrorCode::kNotFound || !std::filesystem::is_directory(path, ignored)) {
    throw CommandError(opened.error().message);
  }
  auto outline = formats::read_outline(path);
  if (!outline) throw CommandError(opened.error().message);
  const auto name =
      outline->config.text_or("torch_dtype", outline->config.text_or("dtype", "").value_or("")).value_or("");
  const DType dtype = name == "float32" ? DType::kF32 : name == "float16" ? DType::kF16 : DType::kBF16;
  return value_or_throw(models::plan_checkpoint(std::move(outline->config), dtype, outline->names));
}

int inspect(const InspectOptions& options) {
  bool present = true;
  const auto source = open_or_plan(options.model.path(), present);
  const Result<std::string> architecture = models::architecture_name(*source);
  models::LoadOptions load = options.model.load_options();
  load.shapes_only = true;
  const auto model = models::load_model(source, load);
  nlohmann::json about =
      describe(*source, architecture, model ? model->get() : nullptr, model ? std::string() : model.error().message);
  about["weights_present"] = present;
  if (model) about["memory"] = memory_by_format(source);
  if (options.json) {
    fmt::print("{}\n", about.dump(1, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    print_table(about);
  }
  return 0;
}

}  // namespace

void add_inspect(CLI::App& program, int& status) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command = program.add_subcommand("inspect", "Show what is in a checkpoint");
  command
      ->add_option("model,-m,--model", options->model.model,
                   "Model folder, .gguf or weight file (default: the bundled model)")
      ->type_name("MODEL");
  command->add_flag("--json", options->json, "For machines");
  command->footer(
      "Examples:\n"
      "  krait inspect\n"
      "  krait inspect model.gguf --json\n"
      "  krait inspect folder-with-config.json      before its weights are downloaded");
  command->callback([options, &status] { status = inspect(*options); });
}

}  // namespace krait::cli
