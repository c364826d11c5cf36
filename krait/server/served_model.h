// The model that a server serves, and what all of its routes need of it.
#pragma once

#include <string>
#include <vector>

#include "krait/formats/state_file.h"
#include "krait/formats/tokenizer.h"
#include "krait/runtime/engine.h"
#include "krait/server/chat_form.h"
#include "krait/server/ollama_api.h"

namespace krait::server {

// What it points to outlives it. The engine's steps are the generator's; here it is asked for its layout, its
// vocabulary and its memory, all of which any thread may.
struct ServedModel {
  ModelCard card;
  runtime::Engine* engine = nullptr;
  const formats::Tokenizer* tokenizer = nullptr;
  formats::StateIdentity identity;
  std::vector<formats::TokenId> end_ids;  // end a text
  std::int64_t drawable = 0;              // ids below may be drawn
  ChatForm chat;

  bool answers_to(const std::string& name) const {
    return name.empty() || name == card.name || name == card.name + ":latest";
  }
  // Of the engine's memory, if nothing of it is shared.
  std::uint64_t bytes_of(const runtime::State& state) const {
    return engine->states().bytes_per_state() + state.pages().size() * engine->states().page_bytes();
  }
};

}  // namespace krait::server
