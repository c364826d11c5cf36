// Reads the beginning of a tale, tells two continuations of it, keeps the state in a file and goes on from there.
#include <iostream>
#include <krait.hpp>

// Up to `most` tokens; the session has read all of them afterwards.
static void tell(const char* title, krait::Session& session, std::uint64_t seed, std::size_t most) {
  krait::Sampler sampler(session.model(), {.seed = seed});
  std::cout << title << ':';
  krait::write(session, sampler, most, [](std::string_view piece) {
    std::cout << piece << std::flush;
    return true;  // false stops
  });
  std::cout << "\n----\n";
}

int main(int argc, char** argv) try {
  const std::string file = argc > 1 ? argv[1] : "state.krait";
  const krait::Model model(krait::bundled_model());
  krait::Session session(model);
  session.feed("Once upon a time there was a fox");

  session.save(file, {.note = "the fox"});
  krait::Session fork = session.fork();
  tell("first", session, 7, 40);
  tell("second", fork, 8, 40);

  std::cout << "note: " << krait::describe_state(file).note << "\n----\n";
  krait::Session loaded = krait::Session::load(model, file).session;
  std::cout << "position: " << loaded.position() << "\n----\n";
  tell("first again", loaded, 7, 40);
  return 0;
} catch (const krait::Error& error) {
  std::cerr << krait_status_name(error.status()) << ": " << error.what() << '\n';
  return 1;
}
