// A command of the program: how it registers its options, and the rules that all of them share.
//   stdout: the answer and nothing else.   stderr: progress, notes, errors.
//   exit status: 0 done; 1 it failed (file, model, data); 2 the command line is wrong; 130 stopped by Ctrl-C.
#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <string>

#include "krait/core/error.h"

namespace krait::cli {

// A failure that ends the command with status 1 and this message.
class CommandError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The value of a Result, or a CommandError with its message.
template <class T>
T value_or_throw(Result<T> result) {
  if (!result) throw CommandError(result.error().message);
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

// Adds a command to the program. Its callback stores the exit status in `status`.
using AddCommand = void (*)(CLI::App& program, int& status);

void add_run(CLI::App& program, int& status);
void add_read(CLI::App& program, int& status);
void add_state(CLI::App& program, int& status);
void add_inspect(CLI::App& program, int& status);
void add_logits(CLI::App& program, int& status);
void add_tokenize(CLI::App& program, int& status);
void add_train(CLI::App& program, int& status);
void add_train_tokenizer(CLI::App& program, int& status);
void add_prepare(CLI::App& program, int& status);
void add_quantize(CLI::App& program, int& status);
void add_convert(CLI::App& program, int& status);
void add_eval(CLI::App& program, int& status);
void add_serve(CLI::App& program, int& status);
void add_load(CLI::App& program, int& status);
void add_top(CLI::App& program, int& status);
void add_bench(CLI::App& program, int& status);

}  // namespace krait::cli
