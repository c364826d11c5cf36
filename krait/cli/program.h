// What both programs, krait and krait-train, do around their commands: the command line, and errors of every kind as
// one line on stderr and an exit status.
#pragma once

#include <span>

#include "krait/cli/command.h"

namespace krait::cli {

int run_program(int argc, char** argv, std::span<const AddCommand> commands);

}  // namespace krait::cli
