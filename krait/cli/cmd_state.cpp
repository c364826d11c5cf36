// krait state: look at state files, compare them, verify them, write them anew.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "krait/cli/command.h"
#include "krait/cli/open_model.h"
#include "krait/cli/terminal.h"
#include "krait/formats/content_identity.h"
#include "krait/kernels/state_conversion.h"
#include "krait/kernels/state_storage.h"
#include "krait/runtime/state_conversion.h"
#include "krait/runtime/state_saving.h"

namespace krait::cli {
namespace {

using formats::StateObject;
using formats::StateSection;
using nlohmann::json;

struct StateOptions {
  ModelOptions model;
  std::vector<std::string> files;
  std::string in, out;
  bool json = false;
  bool text = false;
  bool check_model = false;
  bool zstd = false;
  bool force = false;
  bool no_tokens = false, no_sampler = false, no_logits = false;
};

std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

bool is_state(const StateSection& section) {
  return section.role == "recurrent" || section.role == "conv_window" || section.role == "kv";
}

// The values of a section as f32; those of keys and values in the order in which pages hold them, scales left aside.
std::vector<float> values_of(const StateObject& object, const StateSection& section) {
  std::vector<std::byte> content(section.bytes);
  value_or_throw(object.read(section, content));
  const std::int64_t elements = element_count(section.shape).value_or(0);
  const std::int64_t width = section.shape.empty() ? 1 : std::max<std::int64_t>(section.shape.back(), 1);
  std::vector<float> values;
  if (section.role != "kv" && kernels::is_state_dtype(section.dtype) &&
      static_cast<std::uint64_t>(kernels::state_bytes(section.dtype, elements / width, width)) == section.bytes) {
    values.resize(static_cast<std::size_t>(elements));
    kernels::convert_state(section.dtype, content.data(), elements / width, width, DType::kF32,
                           reinterpret_cast<std::byte*>(values.data()));
    return values;
  }
  const std::uint64_t count = section.bytes / static_cast<std::uint64_t>(info(section.dtype).bytes_per_block);
  values.resize(count);
  value_or_throw(formats::read_as_f32({section.dtype, {static_cast<std::int64_t>(count)}, content}, values));
  return values;
}

json describe(const StateObject& object) {
  const formats::StateDescription& about = object.description();
  json out = {{"file", object.origin()},
              {"bytes", object.bytes()},
              {"position", about.position},
              {"prefix", about.prefix.hex()},
              {"architecture", about.identity.architecture},
              {"weights", about.identity.weights},
              {"model", about.identity.model.hex()},
              {"tokenizer", about.identity.tokenizer.hex()},
              {"note", about.note}};
  if (about.sampler) out["sampler"] = {{"options", about.sampler->options}, {"seed", about.sampler->seed}};
  out["sections"] = json::array();
  for (const StateSection& section : object.sections()) {
    json row = {{"name", section.name},   {"role", section.role},   {"dtype", to_string(section.dtype)},
                {"shape", section.shape}, {"bytes", section.bytes}, {"stored_bytes", section.stored_bytes}};
    if (is_state(section)) {
      double squares = 0, largest = 0;
      const std::vector<float> values = values_of(object, section);
      for (const float value : values) {
        squares += static_cast<double>(value) * value;
        largest = std::max(largest, std::fabs(static_cast<double>(value)));
      }
      row["rms"] = values.empty() ? 0.0 : std::sqrt(squares / static_cast<double>(values.size()));
      row["largest"] = largest;
    }
    out["sections"].push_back(std::move(row));
  }
  return out;
}

void print_description(const json& about) {
  const Style style = Style::for_stream(stdout);
  const auto row = [&](std::string_view label, const std::string& value) {
    fmt::print("{}{:<10}{}{}\n", style.bold, label, style.reset, value);
  };
  row("state",
      fmt::format("{} ({})", about["file"].get<std::string>(), bytes_text(about["bytes"].get<std::uint64_t>())));
  row("position", fmt::format("after {} tokens, whose hash is {}", count_text(about["position"].get<std::int64_t>()),
                              about["prefix"].get<std::string>()));
  row("model", fmt::format("{}, weights {}, {}", about["architecture"].get<std::string>(),
                           about["weights"].get<std::string>(), about["model"].get<std::string>()));
  row("tokenizer", about["tokenizer"].get<std::string>());
  if (const auto note = about["note"].get<std::string>(); !note.empty()) row("note", note);
  if (about.contains("sampler")) row("sampler", dump(about["sampler"]));
  fmt::print("\n{}{:<28}{:<12}{:<6}{:<20}{:>12}{:>12}{:>12}{}\n", style.bold, "section", "role", "dtype", "shape",
             "bytes", "rms", "largest", style.reset);
  for (const json& section : about["sections"]) {
    const auto number = [&](const char* key) {
      return section.contains(key) ? fmt::format("{:.4g}", section[key].get<double>()) : std::string();
    };
    fmt::print("{:<28}{:<12}{:<6}{:<20}{:>12}{:>12}{:>12}\n", section["name"].get<std::string>(),
               section["role"].get<std::string>(), section["dtype"].get<std::string>(),
               krait::to_string(section["shape"].get<Shape>()), count_text(section["bytes"].get<std::int64_t>()),
               number("rms"), number("largest"));
  }
}

// What the state has read, where its tokens were kept.
void print_text(const StateOptions& options, const StateObject& object) {
  const StateSection* section = object.find("tokens");
  if (section == nullptr) throw CommandError(fmt::format("{} keeps no tokens", object.origin()));
  if (section->dtype != DType::kI32 || section->bytes % sizeof(formats::TokenId) != 0) {
    throw CommandError(fmt::format("the tokens of {} are no list of 32-bit numbers", object.origin()));
  }
  std::vector<formats::TokenId> tokens(section->bytes / sizeof(formats::TokenId));
  value_or_throw(object.read(*section, std::as_writable_bytes(std::span(tokens))));
  const auto tokenizer = open_tokenizer_of(options.model);
  if (formats::tokenizer_identity(*tokenizer) != object.description().identity.tokenizer) {
    throw CommandError(
        fmt::format("the tokens of {} are of another tokenizer; name its model with -m", object.origin()));
  }
  formats::TokenDecoder decoder(*tokenizer);
  for (const formats::TokenId id : tokens) fmt::print("{}", decoder.feed(id));
  fmt::print("{}\n", decoder.finish());
}

int show(const StateOptions& options) {
  const InterruptGuard guard;
  json all = json::array();
  for (const std::string& file : options.files) {
    const StateObject object = value_or_throw(StateObject::open(file));
    value_or_throw(object.verify());
    if (options.text) {
      print_text(options, object);
      continue;
    }
    json about = describe(object);
    if (!options.json) {
      if (!all.empty()) fmt::print("\n");
      print_description(about);
    }
    all.push_back(std::move(about));
  }
  if (options.json && !options.text) fmt::print("{}\n", dump(all.size() == 1 ? all.front() : all));
  return 0;
}

int verify(const StateOptions& options) {
  std::optional<runtime::OpenedModel> model;
  if (options.check_model || !options.model.model.empty()) model = open_model_with_tokenizer(options.model);
  int status = 0;
  json all = json::array();
  for (const std::string& file : options.files) {
    const auto check = [&]() -> Result<void> {
      KRAIT_ASSIGN(const StateObject object, StateObject::open(file));
      KRAIT_TRY(object.verify());
      if (!model) return {};
      KRAIT_ASSIGN(const auto identity, model->identity());
      const models::Model& loaded = model->engine().model();
      return runtime::check_identity(object, loaded.state_layout(), loaded.info().vocabulary, identity);
    };
    const auto checked = check();
    if (!checked) status = 1;
    if (options.json) {
      all.push_back({{"file", file}, {"ok", checked.has_value()}, {"problem", checked ? "" : checked.error().message}});
    } else {
      fmt::print("{}: {}\n", file, checked ? "ok" : checked.error().message);
    }
  }
  if (options.json) fmt::print("{}\n", dump(all));
  return status;
}

int diff(const StateOptions& options) {
  const StateObject left = value_or_throw(StateObject::open(options.in));
  const StateObject right = value_or_throw(StateObject::open(options.out));
  value_or_throw(left.verify());
  value_or_throw(right.verify());
  json rows = json::array();
  const auto differs = [&](const std::string& what, const json& a, const json& b) {
    if (a != b) rows.push_back({{"what", what}, {"left", a}, {"right", b}});
  };
  const json a = describe(left), b = describe(right);
  for (const char* key : {"architecture", "model", "weights", "tokenizer", "position", "prefix"})
    differs(key, a[key], b[key]);
  differs("sampler", a.contains("sampler") ? a["sampler"] : json(), b.contains("sampler") ? b["sampler"] : json());
  for (const StateSection& section : left.sections()) {
    const StateSection* other = right.find(section.name);
    if (other == nullptr) {
      differs(section.name, to_string(section.dtype), json());
      continue;
    }
    if (section.dtype != other->dtype) differs(section.name, to_string(section.dtype), to_string(other->dtype));
    if (section.shape != other->shape) {
      differs(section.name, section.shape, other->shape);
      continue;
    }
    const std::vector<float> x = values_of(left, section), y = values_of(right, *other);
    double apart = 0, scale = 0;
    std::size_t different = 0;
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      different += x[i] != y[i] && !(std::isnan(x[i]) && std::isnan(y[i])) ? 1 : 0;
      apart = std::max(apart, std::fabs(static_cast<double>(x[i]) - y[i]));
      scale = std::max({scale, std::fabs(static_cast<double>(x[i])), std::fabs(static_cast<double>(y[i]))});
    }
    if (different > 0 || x.size() != y.size()) {
      rows.push_back({{"what", section.name},
                      {"values", x.size()},
                      {"different", different},
                      {"largest_difference", apart},
                      {"relative", scale > 0 ? apart / scale : 0.0}});
    }
  }
  for (const StateSection& section : right.sections()) {
    if (left.find(section.name) == nullptr) differs(section.name, json(), to_string(section.dtype));
  }
  if (options.json) {
    fmt::print("{}\n", dump({{"same", rows.empty()}, {"differences", rows}}));
  } else if (rows.empty()) {
    fmt::print("the same state\n");
  }
  for (const json& row : options.json ? json::array() : rows) {
    const std::string what = row["what"].get<std::string>();
    if (row.contains("left")) {
      fmt::print("{:<28}{} | {}\n", what, dump(row["left"]), dump(row["right"]));
    } else {
      fmt::print("{:<28}{} of {} values differ, by up to {:.3g} ({:.2g} of the largest)\n", what,
                 count_text(row["different"].get<std::int64_t>()), count_text(row["values"].get<std::int64_t>()),
                 row["largest_difference"].get<double>(), row["relative"].get<double>());
    }
  }
  return rows.empty() ? 0 : 1;
}

int convert(const StateOptions& options) {
  if (std::filesystem::exists(options.out) && !options.force) {
    throw CommandError(fmt::format("{} is there already; --force replaces it", options.out));
  }
  const StateObject object = value_or_throw(StateObject::open(options.in));
  runtime::StateConversion conversion{.zstd_level = options.zstd ? 3 : 0,
                                      .keep_tokens = !options.no_tokens,
                                      .keep_sampler = !options.no_sampler,
                                      .keep_logits = !options.no_logits};
  std::unique_ptr<models::Model> model;
  if (!options.model.state_dtype.empty() || !options.model.kv_dtype.empty()) {
    models::LoadOptions load = options.model.load_options();
    load.shapes_only = true;
    model = value_or_throw(models::load_model(value_or_throw(formats::open_weights(options.model.path())), load));
    if (model->info().architecture != object.description().identity.architecture) {
      throw CommandError(fmt::format("{} is a state of a {}, and the model is a {}: name its model with -m", options.in,
                                     object.description().identity.architecture, model->info().architecture));
    }
    conversion.layout = &model->state_layout();
  }
  value_or_throw(runtime::convert_state_file(object, options.out, conversion));
  fmt::print("{}: {} instead of {}\n", options.out, bytes_text(std::filesystem::file_size(options.out)),
             bytes_text(object.bytes()));
  return 0;
}

}  // namespace

void add_state(CLI::App& program, int& status) {
  auto options = std::make_shared<StateOptions>();
  CLI::App* command = program.add_subcommand("state", "Show, compare, verify and convert state files");
  command->require_subcommand(1);
  command->footer(
      "Examples:\n"
      "  krait state show book.state\n"
      "  krait state diff before.state after.state\n"
      "  krait state verify -m mamba2-130m *.state\n"
      "  krait state convert --state-dtype int8 book.state small.state");

  const auto add = [&](const char* name, const char* description, int (*action)(const StateOptions&)) {
    CLI::App* sub = command->add_subcommand(name, description);
    sub->callback([options, &status, action] { status = action(*options); });
    return sub;
  };
  CLI::App* sub = add("show", "What a state belongs to and consists of", show);
  sub->add_option("files", options->files, "State files")->required()->type_name("FILE");
  sub->add_flag("--text", options->text, "The text that the state has read, where its tokens were kept");
  options->model.add_model(*sub);
  options->model.add_tokenizer(*sub);
  sub->add_flag("--json", options->json, "JSON instead of a table");

  sub = add("diff", "How two states differ; exit status 1 when they do", diff);
  sub->add_option("left", options->in, "A state file")->required()->type_name("FILE");
  sub->add_option("right", options->out, "Another one")->required()->type_name("FILE");
  sub->add_flag("--json", options->json, "JSON instead of lines");

  sub = add("verify", "Check all checksums, and with -m whether the model can go on; exit status 1 when one fails",
            verify);
  sub->add_option("files", options->files, "State files")->required()->type_name("FILE");
  options->model.add_model(*sub);
  options->model.add_tokenizer(*sub);
  options->model.add_engine(*sub);
  sub->add_flag("--bundled", options->check_model, "Check that the bundled model can go on");
  sub->add_flag("--json", options->json, "JSON instead of lines");

  sub = add("convert", "Write a state in another dtype, compressed, or without what is not the state itself", convert);
  sub->add_option("in", options->in, "The state file")->required()->type_name("IN.state");
  sub->add_option("out", options->out, "The new one")->required()->type_name("OUT.state");
  options->model.add_model(*sub);
  options->model.add_state_dtypes(*sub);
  sub->add_flag("--zstd", options->zstd, "Compress it");
  sub->add_flag("--no-tokens", options->no_tokens, "Leave the tokens out");
  sub->add_flag("--no-sampler", options->no_sampler, "Leave the sampler out");
  sub->add_flag("--no-logits", options->no_logits, "Leave the logits after the last token out");
  sub->add_flag("--force", options->force, "Replace the new file if it is there");
}

}  // namespace krait::cli
