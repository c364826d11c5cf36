// The program `krait`: a table of commands.
#include "krait/cli/program.h"

int main(int argc, char** argv) {
  using namespace krait::cli;
  constexpr AddCommand kCommands[] = {add_run,     add_read,     add_state,
                                      add_inspect, add_logits,   add_tokenize,
                                      add_train,   add_prepare,  add_train_tokenizer,
                                      add_eval,    add_quantize, add_convert,
                                      add_serve,   add_load,     add_top,
                                      add_bench};
  return run_program(argc, argv, kCommands);
}
