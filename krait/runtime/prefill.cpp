#include "krait/runtime/prefill.h"

#include <functional>

#include "krait/core/error.h"

namespace krait::runtime {
namespace {

// Where the engine has no memory for another state, the store gives up its least valuable one, as often as it can.
template <class Attempt>
auto with_room(Engine& engine, StateStore* store, const Attempt& attempt) {
  while (true) {
    try {
      return attempt();
    } catch (const UserError&) {
      if (store == nullptr || !store->give_back(engine.states().bytes_per_state())) throw;
    }
  }
}

}  // namespace

StateStore::Found find_start(StateStore* store, std::span<const TokenId> tokens) {
  if (store == nullptr) {
    StateStore::Found nothing;
    nothing.lookup.tokens = std::ssize(tokens);
    nothing.lookup.reason = LookupReason::disabled;
    return nothing;
  }
  StateStore::Found found = store->find(tokens);
  // One that somebody kept without logits cannot say what follows.
  if (found.state && found.state.position() == std::ssize(tokens) && found.state.logits().empty()) {
    found = store->find(tokens, std::ssize(tokens) - 1);
  }
  return found;
}

Prefilled prefill(Engine& engine, StateStore* store, std::span<const TokenId> tokens, const Session::Reached& reached) {
  if (tokens.empty()) throw UserError("a prompt of no tokens has nothing that follows", "give at least one token");
  engine.check_tokens(tokens);
  StateStore::Found found = find_start(store, tokens);
  Session session =
      with_room(engine, store, [&] { return found.state ? Session(engine, found.state) : Session(engine); });
  found.state = {};  // the session's alone, if the store gives it up
  const std::int64_t reused = session.position();

  bool going = true;
  const auto feed_to = [&](std::int64_t position) {
    if (!going) return;
    with_room(engine, store, [&] {
      const auto from = static_cast<std::size_t>(session.position());
      return session.feed(tokens.subspan(from, static_cast<std::size_t>(position) - from), [&](std::int64_t at) {
        going = !reached || reached(at);
        return going;
      });
    });
  };
  for (const Lookup::Snapshot& snapshot : found.lookup.snapshots) {
    feed_to(snapshot.position);
    if (session.position() != snapshot.position) break;
    store->admit(tokens.first(static_cast<std::size_t>(snapshot.position)), session.snapshot(), snapshot.kind);
  }
  feed_to(std::ssize(tokens));
  const std::int64_t computed = session.position() - reused;
  return {std::move(session), std::move(found.lookup), reused, computed};
}

}  // namespace krait::runtime
