// The options by which commands name a model, and opening it.
#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "krait/formats/tokenizer.h"
#include "krait/models/registry.h"
#include "krait/runtime/open_model.h"

namespace krait::cli {

// What --weights takes.
extern const std::vector<std::string> kWeightFormats;

struct ModelOptions {
  std::string model;    // empty: the bundled one
  std::string weights;  // empty: the file's
  bool in_place = false;
  std::string state_dtype;  // empty: f32
  std::string kv_dtype;     // empty: f32
  bool exact_activations = false;
  std::string tokenizer;  // empty: the model's own
  int threads = 0;
  std::uint64_t state_memory = 0;  // bytes that states may take; 0: half of what is left

  void add_model(CLI::App& command);         // -m
  void add_engine(CLI::App& command);        // --weights, --state-dtype, --threads, …
  void add_state_dtypes(CLI::App& command);  // the two of them that states have
  void add_tokenizer(CLI::App& command);     // --tokenizer

  std::filesystem::path path() const;
  models::LoadOptions load_options() const;
};

// Where a model is that came with the program (runtime/open_model.h). Throws CommandError when it is not there.
std::filesystem::path bundled_model(std::string_view name);

runtime::OpenedModel open_model(const ModelOptions& options, std::int64_t prefill_chunk = 512);
// The same with its tokenizer, for commands that keep states.
runtime::OpenedModel open_model_with_tokenizer(const ModelOptions& options, std::int64_t prefill_chunk = 512);
std::unique_ptr<runtime::Engine> open_engine(const ModelOptions& options, std::int64_t prefill_chunk = 512);
std::unique_ptr<formats::Tokenizer> open_tokenizer_of(const ModelOptions& options);

// The text a command works on: an argument, a file, or standard input when neither is given.
struct TextInput {
  std::string text;
  std::string file;

  void add(CLI::App& command, const std::string& what);
  bool given() const { return !text.empty() || !file.empty(); }
  std::string read() const;
};
std::string read_file(const std::string& path);  // "-" is standard input

// A file that is read piece by piece; "-" is standard input, which is not closed. CommandError when it cannot be
// opened.
struct CloseInput {
  void operator()(std::FILE* file) const {
    if (file != nullptr && file != stdin) std::fclose(file);
  }
};
using InputFile = std::unique_ptr<std::FILE, CloseInput>;
InputFile open_input(const std::string& path);
// A whole text into a file; CommandError when it cannot be.
void write_file(const std::filesystem::path& path, const std::string& text);

}  // namespace krait::cli
