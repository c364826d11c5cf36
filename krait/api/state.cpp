// States that are kept, in the C interface: sessions to state objects, and back.
#include <algorithm>
#include <cstring>
#include <memory>

#include "krait/api/error_text.h"
#include "krait/api/shared_model.h"
#include "krait/api/sized_struct.h"
#include "krait/formats/state_file.h"
#include "krait/formats/tokenizer_utf8.h"
#include "krait/runtime/state_saving.h"

using namespace krait;
using namespace krait::api;

namespace {

Result<krait_save_options> save_options(const krait_session& session, const krait_save_options* options) {
  constexpr std::size_t kFirstSize = 32;
  static_assert(sizeof(krait_save_options) == kFirstSize);
  KRAIT_ASSIGN(const krait_save_options wanted,
               read_options<krait_save_options>(options, KRAIT_SAVE_OPTIONS, kFirstSize, "krait_save_options"));
  if (wanted.sampler != nullptr && wanted.sampler->model != session.model) {
    return fail(ErrorCode::kInvalidArgument, "[api] the sampler was made for another model than the session's");
  }
  constexpr std::int32_t kMostCompression = 19;
  if (wanted.compression < 0 || wanted.compression > kMostCompression) {
    return fail(ErrorCode::kInvalidArgument, "[api] compression {} is not in 0 … {}", wanted.compression,
                kMostCompression);
  }
  if (wanted.reserved != 0) {
    return fail(ErrorCode::kUnsupported, "[api] the reserved member of krait_save_options is {}, not 0",
                wanted.reserved);
  }
  if (wanted.note != nullptr && formats::valid_utf8_end(wanted.note, 0) != std::strlen(wanted.note)) {
    return fail(ErrorCode::kInvalidArgument, "[api] the note is not UTF-8");
  }
  return wanted;
}

runtime::StateExtras extras_of(const krait_save_options& options) {
  return {.sampler = options.sampler == nullptr ? nullptr : &options.sampler->sampler,
          .note = options.note == nullptr ? "" : options.note,
          .zstd_level = options.compression};
}

Result<void> load(const krait_model& model, const formats::StateObject& object, krait_session** session,
                  krait_sampler** sampler) {
  SharedModel& shared = *model.shared;
  KRAIT_ASSIGN(const formats::StateIdentity identity, shared.identity());
  KRAIT_ASSIGN(runtime::RestoredState restored, runtime::restore_state(object, shared.engine(), identity));
  std::unique_ptr<krait_sampler> chooser;
  if (sampler != nullptr && restored.sampler) {
    KRAIT_ASSIGN(runtime::Sampler found, runtime::Sampler::restore(*restored.sampler, shared.drawable()));
    chooser = std::make_unique<krait_sampler>(model.shared, std::move(found));
  }
  *session = new krait_session{model.shared, runtime::Session(shared.engine(), restored.state)};
  if (sampler != nullptr) *sampler = chooser.release();
  return {};
}

Result<formats::StateObject> parse(const void* bytes, std::size_t count) {
  return formats::StateObject::parse({static_cast<const std::byte*>(bytes), count}, "bytes in memory");
}

// What fits, without half a character at the end.
template <std::size_t Size>
void write_text(char (&out)[Size], std::string_view text) {
  std::size_t bytes = std::min(text.size(), Size - 1);
  while (bytes < text.size() && bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xC0U) == 0x80U) --bytes;
  text.copy(out, bytes);
  out[bytes] = '\0';
}

Result<void> describe(const formats::StateObject& object, krait_state_facts* facts) {
  KRAIT_TRY(object.verify());
  const formats::StateDescription& description = object.description();
  krait_state_facts known = KRAIT_STATE_FACTS;
  known.position = description.position;
  known.bytes = object.bytes();
  known.has_logits = object.find("logits") != nullptr ? 1 : 0;
  known.has_sampler = description.sampler ? 1 : 0;
  write_text(known.architecture, description.identity.architecture);
  write_text(known.weights, description.identity.weights);
  write_text(known.model, description.identity.model.hex());
  write_text(known.tokenizer, description.identity.tokenizer.hex());
  write_text(known.note, description.note);
  constexpr std::size_t kFirstSize = 496;
  static_assert(sizeof(krait_state_facts) == kFirstSize);
  return write_facts(*facts, known, kFirstSize, "krait_state_facts");
}

}  // namespace

krait_status krait_session_save(const krait_session* session, const char* path, const krait_save_options* options) {
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{session, "session"}, {path, "path"}}));
    KRAIT_ASSIGN(const krait_save_options wanted, save_options(*session, options));
    KRAIT_ASSIGN(const formats::StateIdentity identity, session->model->identity());
    return runtime::save_state(path, session->model->engine(), identity, session->session.snapshot(),
                               extras_of(wanted));
  });
}

krait_status krait_session_save_bytes(const krait_session* session, const krait_save_options* options, void** bytes,
                                      size_t* count) {
  clear(bytes, count);
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{session, "session"}, {bytes, "bytes"}, {count, "count"}}));
    KRAIT_ASSIGN(const krait_save_options wanted, save_options(*session, options));
    KRAIT_ASSIGN(const formats::StateIdentity identity, session->model->identity());
    const runtime::State state = session->session.snapshot();
    const runtime::StateExtras extras = extras_of(wanted);
    const runtime::StateSections sections(session->model->engine(), identity, state, extras);
    KRAIT_ASSIGN(const std::vector<std::byte> encoded,
                 formats::encode_state(sections.description(), sections.sources(), {extras.zstd_level}));
    *bytes = give({reinterpret_cast<const char*>(encoded.data()), encoded.size()}).release();
    *count = encoded.size();
    return {};
  });
}

krait_status krait_session_load(const krait_model* model, const char* path, krait_session** session,
                                krait_sampler** sampler) {
  clear(session, sampler);
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{model, "model"}, {path, "path"}, {session, "session"}}));
    KRAIT_ASSIGN(const formats::StateObject object, formats::StateObject::open(path));
    return load(*model, object, session, sampler);
  });
}

krait_status krait_session_load_bytes(const krait_model* model, const void* bytes, size_t count,
                                      krait_session** session, krait_sampler** sampler) {
  clear(session, sampler);
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{model, "model"}, {bytes, "bytes", count == 0}, {session, "session"}}));
    KRAIT_ASSIGN(const formats::StateObject object, parse(bytes, count));
    return load(*model, object, session, sampler);
  });
}

krait_status krait_state_describe(const char* path, krait_state_facts* facts) {
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{path, "path"}, {facts, "facts"}}));
    KRAIT_ASSIGN(const formats::StateObject object, formats::StateObject::open(path));
    return describe(object, facts);
  });
}

krait_status krait_state_describe_bytes(const void* bytes, size_t count, krait_state_facts* facts) {
  return guarded([&]() -> Result<void> {
    KRAIT_TRY(need({{bytes, "bytes", count == 0}, {facts, "facts"}}));
    KRAIT_ASSIGN(const formats::StateObject object, parse(bytes, count));
    return describe(object, facts);
  });
}
