// Goes on from a saved state in a process of its own, for state_saving_test.cpp:
//   state_continuer TINY_MODEL STATE_DTYPE FILE ID…
// writes the logits after each token (f32) and then the state it ends with to standard output.
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "krait/runtime/state_saving.h"
#include "tests/runtime/tiny_model_states.h"

int main(int argc, char** argv) {
  using namespace krait;
  if (argc < 4) return 2;
  const models::SyntheticShape* shape = tests::find_tiny_model(argv[1]);
  if (shape == nullptr) return 2;
  std::vector<std::int32_t> ids;
  for (int i = 4; i < argc; ++i) ids.push_back(std::atoi(argv[i]));
  auto opened = tests::open_tiny_model(*shape, *parse_dtype(argv[2]));
  const auto object = formats::StateObject::open(argv[3]);
  if (!opened || !object) return 3;
  const auto restored = runtime::restore_state(*object, opened->engine(), *opened->identity());
  if (!restored) {
    std::fprintf(stderr, "%s\n", restored.error().message.c_str());
    return 3;
  }
  runtime::Session session(opened->engine(), restored->state);
  const std::vector<std::byte> out = tests::logits_and_state(session, ids);
  return std::fwrite(out.data(), 1, out.size(), stdout) == out.size() ? 0 : 4;
}
