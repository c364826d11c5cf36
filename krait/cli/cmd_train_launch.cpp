// krait train, in the program krait: starts krait-train beside it, which is linked with libtorch. Every other command
// would wait for libtorch and its many libraries to load, and take their memory, for nothing.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "krait/cli/command.h"
#include "krait/kernels/simd_target.h"

namespace krait::cli {
namespace {

int launch(const std::vector<std::string>& arguments) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path program = self.parent_path() / "krait-train";
  if (error || !std::filesystem::exists(program)) {
    throw CommandError(fmt::format(
        "this build cannot train: {} is not there. Training needs libtorch (Debian: libtorch-dev) when krait is built",
        program.string()));
  }
  // libtorch's small products go through the system's BLAS. OpenBLAS 0.3.21 does not know processors that came after it
  // and falls back to kernels for SSE3, a fifth of their speed; its kernels for AVX-512 or AVX2 run on them.
  const std::vector<std::string> targets = kernels::supported_targets();
  const auto has = [&](std::string_view name) { return std::ranges::find(targets, name) != targets.end(); };
  if (has("AVX3")) {
    setenv("OPENBLAS_CORETYPE", "SkylakeX", 0);
  } else if (has("AVX2")) {
    setenv("OPENBLAS_CORETYPE", "Haswell", 0);
  }
  // libtorch's log repeats what its errors say, which the program says in its own words.
  setenv("GLOG_minloglevel", "3", 0);
  std::vector<char*> words = {const_cast<char*>("krait-train"), const_cast<char*>("train")};
  for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  execv(program.c_str(), words.data());
  throw CommandError(fmt::format("cannot start {}: {}", program.string(), std::strerror(errno)));
}

}  // namespace

void add_train(CLI::App& program, int& status) {
  auto* command = program.add_subcommand("train", "Train a model as a configuration says");
  // All that follows is krait-train's to understand, its --help too.
  command->prefix_command();
  command->set_help_flag();
  command->callback([command, &status] { status = launch(command->remaining()); });
}

}  // namespace krait::cli
