#include "krait/cli/program.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "krait/cli/terminal.h"
#include "krait/core/check.h"
#include "krait/formats/tokenizer_utf8.h"
#include "krait/kernels/simd_target.h"

namespace krait::cli {
namespace {

// Before any command runs and after --help, which a wrong value must not hide.
void use_target_of_environment() {
  const char* name = std::getenv("KRAIT_TARGET");
  if (name == nullptr) return;
  if (const auto done = kernels::force_target(name); !done) {
    throw UserError(done.error().message,
                    "the environment asks for it in KRAIT_TARGET; without that the best one is used");
  }
}

int run(int argc, char** argv, std::span<const AddCommand> commands) {
  CLI::App program("krait runs state-space language models on ordinary CPUs.", "krait");
  program.set_version_flag("--version", "krait " KRAIT_VERSION);
  program.require_subcommand(1);
  program.set_help_all_flag("--help-all", "Help of every command");
  program.footer(
      "Examples:\n"
      "  krait run \"Once upon a time\"              a story from the bundled model\n"
      "  krait run -m ~/models/mamba-130m -n 50 Hi  another model: a folder or a .gguf file\n"
      "  krait serve                                the bundled model for clients of OpenAI's API\n"
      "  krait inspect model.gguf                   what is in a checkpoint\n"
      "  krait COMMAND --help                       options and examples of a command\n"
      "\n"
      "Environment:\n"
      "  KRAIT_TARGET                               instruction set instead of the best one: " +
      fmt::format("{}", fmt::join(kernels::supported_targets(), ", ")));
  program.parse_complete_callback(use_target_of_environment);
  int status = 0;
  for (const AddCommand add : commands) add(program, status);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = program.exit(error);
    return code == 0 ? 0 : 2;
  }
  return status;
}

// File names and tensor names of damaged files reach messages: nothing of them may act on the terminal.
std::string printable(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const formats::Utf8Step step = formats::read_utf8(text, i);
    if (step.status == formats::Utf8Step::kValid && step.code >= 0x20 && step.code != 0x7f) {
      out.append(text.substr(i, step.length));
    } else {
      for (std::size_t j = 0; j < step.length; ++j) {
        out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[i + j]));
      }
    }
    i += step.length;
  }
  return out;
}

int report(const char* message, const std::string& hint, int status) {
  const Style style = Style::for_stream(stderr);
  fmt::print(stderr, "{}error:{} {}\n", style.red, style.reset, printable(message));
  if (!hint.empty()) fmt::print(stderr, "       {}\n", hint);
  return status;
}

}  // namespace

int run_program(int argc, char** argv, std::span<const AddCommand> commands) {
  try {
    return run(argc, argv, commands);
  } catch (const UserError& error) {
    return report(error.what(), error.hint(), 2);
  } catch (const CommandError& error) {
    return report(error.what(), "", 1);
  } catch (const std::bad_alloc&) {
    return report("out of memory", "a smaller model or --dtype bf16 needs less", 1);
  } catch (const std::exception& error) {
    return report(error.what(), "", 1);
  }
}

}  // namespace krait::cli
