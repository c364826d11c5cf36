// Brings a session behind the last token of a prompt: from the longest stored state on, leaving states where the store
// wants them. What follows is what an empty store would have given: to the bit where the rest was cut into the same
// chunks (session.h), and within rounding otherwise.
#pragma once

#include <cstdint>
#include <span>

#include "krait/runtime/session.h"
#include "krait/runtime/state_store.h"

namespace krait::runtime {

// The stored state to go on from, of one that was kept with logits where it stands for all tokens. Without a store
// (null) there is none, and the lookup says that none was used.
StateStore::Found find_start(StateStore* store, std::span<const TokenId> tokens);

struct Prefilled {
  Session session;            // with the logits that follow the prompt
  Lookup lookup;              // what was found, or why nothing was
  std::int64_t reused = 0;    // tokens that a stored state stood for
  std::int64_t computed = 0;  // the others
};

// Without a store everything is computed. Throws UserError for an empty
// prompt, for a token outside the vocabulary, and when the engine's memory for states is used up by others than the
// store.
// `reached` hears the position after each chunk and ends it there by answering false: then the session stands before
// the end of the prompt.
Prefilled prefill(Engine& engine, StateStore* store, std::span<const TokenId> tokens,
                  const Session::Reached& reached = {});

}  // namespace krait::runtime
