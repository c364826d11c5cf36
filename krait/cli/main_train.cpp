// The program `krait-train`: what needs libtorch, started by krait (cmd_train_launch.cpp).
#include "krait/cli/program.h"

int main(int argc, char** argv) {
  using namespace krait::cli;
  constexpr AddCommand kCommands[] = {add_train};
  return run_program(argc, argv, kCommands);
}
