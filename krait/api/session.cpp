// Sessions of the C interface.
#include "krait/runtime/session.h"

#include "krait/api/error_text.h"
#include "krait/api/shared_model.h"

using namespace krait;
using namespace krait::api;

krait_status krait_session_create(const krait_model* model, krait_session** session) {
  clear(session);
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{model, "model"}, {session, "session"}}));
    *session = new krait_session{model->shared, runtime::Session(model->shared->engine())};
    return {};
  });
}

void krait_session_free(krait_session* session) { delete session; }

krait_status krait_session_fork(const krait_session* session, krait_session** fork) {
  clear(fork);
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{session, "session"}, {fork, "fork"}}));
    *fork = new krait_session{session->model, session->session.fork()};
    return {};
  });
}

krait_status krait_session_feed(krait_session* session, const int32_t* ids, size_t count) {
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{session, "session"}, {ids, "ids", count == 0}}));
    return session->model->feed(session->session, {ids, count});
  });
}

krait_status krait_session_feed_text(krait_session* session, const char* text, size_t bytes) {
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{session, "session"}, {text, "text", bytes == 0}}));
    SharedModel& model = *session->model;
    KRAIT_ASSIGN(const formats::Tokenizer* tokenizer, model.need_tokenizer());
    const bool at_start = session->session.position() == 0;
    const auto ids = runtime::encode_prompt(model.info(), *tokenizer, {text, bytes}, at_start);
    if (ids.empty() && at_start) {
      return fail(ErrorCode::kInvalidArgument, "[api] the text is empty and the model has no token to start a text");
    }
    return model.feed(session->session, ids);
  });
}

int64_t krait_session_position(const krait_session* session) {
  return session == nullptr ? -1 : session->session.position();
}

uint64_t krait_session_state_bytes(const krait_session* session) {
  if (session == nullptr) return 0;
  return session->session.state().size() +
         session->session.pages().size() * session->model->engine().states().page_bytes();
}

krait_status krait_session_logits(const krait_session* session, const float** logits, size_t* count) {
  clear(logits, count);
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{session, "session"}, {logits, "logits"}, {count, "count"}}));
    const std::span<const float> row = session->session.logits();
    if (row.empty()) {
      return fail(ErrorCode::kInvalidArgument,
                  "[api] the session has no logits at position {}: they follow the token that was fed last",
                  session->session.position());
    }
    *logits = row.data();
    *count = row.size();
    return {};
  });
}
