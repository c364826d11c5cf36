// krait's C++20 interface: the C interface (krait.h, which says all about ownership, threads and units) with handles
// that free themselves and errors that are thrown. Header only; link libkrait.
//
//   krait::Model model(krait::bundled_model());
//   krait::Session session(model);
//   session.feed("Once upon a time");
//   krait::Sampler sampler(model, {.seed = 7});
//   krait::write(session, sampler, 100, [](std::string_view piece) { std::cout << piece; return true; });
#pragma once

#include <krait.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace krait {
// Inline, so that names of one version of the interface never become those of another in a program with both.
inline namespace v0 {

class Error : public std::runtime_error {
 public:
  Error(krait_status status, const char* message) : std::runtime_error(message), status_(status) {}
  krait_status status() const noexcept { return status_; }

 private:
  krait_status status_;
};

inline void check(krait_status status) {
  if (status != KRAIT_OK) throw Error(status, krait_last_error());
}

namespace detail {
template <auto Function>
struct Call {
  template <class T>
  void operator()(T* handle) const noexcept {
    Function(handle);
  }
};
template <class T, auto Function>
using Handle = std::unique_ptr<T, Call<Function>>;
// Memory of the library's, until it has been copied.
template <class T>
using Given = Handle<T, krait_free>;

inline const char* text_or_null(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }
}  // namespace detail

inline std::string bundled_model() {
  char* path = nullptr;
  check(krait_bundled_model(&path));
  const detail::Given<char> given(path);
  return path;
}

struct ModelOptions {
  std::string weights = {};      // empty: as in the file
  std::string state_dtype = {};  // empty: f32
  std::string kv_dtype = {};     // empty: f32
  std::string tokenizer = {};    // empty: the model's own
  std::uint64_t state_memory = 0;
  int threads = 0;
  bool in_place = false;
};

using ModelFacts = krait_model_facts;
using StateFacts = krait_state_facts;

// A copy is the same model: everything of it that holds memory is freed with the last copy, session and sampler.
class Model {
 public:
  explicit Model(const std::string& path, const ModelOptions& options = {}) {
    krait_model_options wanted = KRAIT_MODEL_OPTIONS;
    wanted.weights = detail::text_or_null(options.weights);
    wanted.state_dtype = detail::text_or_null(options.state_dtype);
    wanted.kv_dtype = detail::text_or_null(options.kv_dtype);
    wanted.tokenizer = detail::text_or_null(options.tokenizer);
    wanted.state_memory = options.state_memory;
    wanted.threads = options.threads;
    wanted.in_place = options.in_place ? 1 : 0;
    krait_model* model = nullptr;
    check(krait_model_open(path.c_str(), &wanted, &model));
    model_.reset(model, krait_model_free);
  }

  ModelFacts facts() const {
    ModelFacts facts = KRAIT_MODEL_FACTS;
    check(krait_model_describe(get(), &facts));
    return facts;
  }
  // As long as the model lives.
  std::span<const std::int32_t> end_ids() const {
    const std::int32_t* ids = nullptr;
    std::size_t count = 0;
    check(krait_model_end_ids(get(), &ids, &count));
    return {ids, count};
  }
  bool ends_text(std::int32_t id) const {
    const auto ids = end_ids();
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  }

  std::vector<std::int32_t> tokenize(std::string_view text, bool at_start = false) const {
    std::int32_t* ids = nullptr;
    std::size_t count = 0;
    check(krait_tokenize(get(), text.data(), text.size(), at_start ? 1 : 0, &ids, &count));
    const detail::Given<std::int32_t> given(ids);
    return {ids, ids + count};
  }
  std::string detokenize(std::span<const std::int32_t> ids) const {
    char* text = nullptr;
    std::size_t bytes = 0;
    check(krait_detokenize(get(), ids.data(), ids.size(), &text, &bytes));
    const detail::Given<char> given(text);
    return {text, bytes};
  }

  krait_model* get() const noexcept { return model_.get(); }

 private:
  std::shared_ptr<krait_model> model_;
};

// The pieces live until the next call.
class Decoder {
 public:
  explicit Decoder(const Model& model) {
    krait_decoder* decoder = nullptr;
    check(krait_decoder_create(model.get(), &decoder));
    decoder_.reset(decoder);
  }
  std::string_view feed(std::int32_t id) {
    const char* text = nullptr;
    std::size_t bytes = 0;
    check(krait_decoder_feed(get(), id, &text, &bytes));
    return {text, bytes};
  }
  std::string_view finish() {
    const char* text = nullptr;
    std::size_t bytes = 0;
    check(krait_decoder_finish(get(), &text, &bytes));
    return {text, bytes};
  }
  krait_decoder* get() const noexcept { return decoder_.get(); }

 private:
  detail::Handle<krait_decoder, krait_decoder_free> decoder_;
};

struct SamplerOptions {
  std::uint64_t seed = 0;
  std::int64_t top_k = 40;  // 0: all
  float temperature = 0.8F;
  float top_p = 0.95F;
  float min_p = 0;
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
};

class Sampler {
 public:
  explicit Sampler(const Model& model, const SamplerOptions& options = {}) {
    krait_sampler_options wanted = KRAIT_SAMPLER_OPTIONS;
    wanted.seed = options.seed;
    wanted.top_k = options.top_k;
    wanted.temperature = options.temperature;
    wanted.top_p = options.top_p;
    wanted.min_p = options.min_p;
    wanted.repetition_penalty = options.repetition_penalty;
    wanted.presence_penalty = options.presence_penalty;
    wanted.frequency_penalty = options.frequency_penalty;
    krait_sampler* sampler = nullptr;
    check(krait_sampler_create(model.get(), &wanted, &sampler));
    sampler_.reset(sampler);
  }
  // Takes the handle over.
  explicit Sampler(krait_sampler* sampler) noexcept : sampler_(sampler) {}

  Sampler fork() const {
    krait_sampler* fork = nullptr;
    check(krait_sampler_fork(get(), &fork));
    return Sampler(fork);
  }
  void observe(std::span<const std::int32_t> ids) { check(krait_sampler_observe(get(), ids.data(), ids.size())); }
  std::int32_t choose(std::span<const float> logits) {
    std::int32_t id = -1;
    check(krait_sampler_choose(get(), logits.data(), logits.size(), &id));
    return id;
  }
  krait_sampler* get() const noexcept { return sampler_.get(); }

 private:
  detail::Handle<krait_sampler, krait_sampler_free> sampler_;
};

struct SaveOptions {
  const Sampler* sampler = nullptr;
  std::string note = {};
  int compression = 0;
};

class Session {
 public:
  explicit Session(const Model& model) : model_(model) {
    krait_session* session = nullptr;
    check(krait_session_create(model.get(), &session));
    session_.reset(session);
  }
  Session fork() const {
    krait_session* fork = nullptr;
    check(krait_session_fork(get(), &fork));
    return {model_, fork};
  }

  void feed(std::span<const std::int32_t> ids) { check(krait_session_feed(get(), ids.data(), ids.size())); }
  void feed(std::int32_t id) { check(krait_session_feed(get(), &id, 1)); }
  void feed(std::string_view text) { check(krait_session_feed_text(get(), text.data(), text.size())); }
  std::int64_t position() const noexcept { return krait_session_position(get()); }
  std::uint64_t state_bytes() const noexcept { return krait_session_state_bytes(get()); }
  // Until the session is fed or freed.
  std::span<const float> logits() const {
    const float* logits = nullptr;
    std::size_t count = 0;
    check(krait_session_logits(get(), &logits, &count));
    return {logits, count};
  }
  std::int32_t sample(Sampler& sampler) const {
    std::int32_t id = -1;
    check(krait_session_sample(get(), sampler.get(), &id));
    return id;
  }

  void save(const std::string& path, const SaveOptions& options = {}) const {
    const krait_save_options wanted = c_options(options);
    check(krait_session_save(get(), path.c_str(), &wanted));
  }
  std::vector<std::byte> save(const SaveOptions& options = {}) const {
    const krait_save_options wanted = c_options(options);
    void* bytes = nullptr;
    std::size_t count = 0;
    check(krait_session_save_bytes(get(), &wanted, &bytes, &count));
    const detail::Given<void> given(bytes);
    const auto* first = static_cast<const std::byte*>(bytes);
    return {first, first + count};
  }

  struct Loaded;
  static Loaded load(const Model& model, const std::string& path);
  static Loaded load(const Model& model, std::span<const std::byte> bytes);

  const Model& model() const noexcept { return model_; }
  krait_session* get() const noexcept { return session_.get(); }

 private:
  Session(Model model, krait_session* session) noexcept : model_(std::move(model)), session_(session) {}
  static krait_save_options c_options(const SaveOptions& options) {
    krait_save_options wanted = KRAIT_SAVE_OPTIONS;
    wanted.sampler = options.sampler == nullptr ? nullptr : options.sampler->get();
    wanted.note = detail::text_or_null(options.note);
    wanted.compression = options.compression;
    return wanted;
  }

  Model model_;
  detail::Handle<krait_session, krait_session_free> session_;
};

struct Session::Loaded {
  Session session;
  std::optional<Sampler> sampler;  // where one was saved
};

inline Session::Loaded Session::load(const Model& model, const std::string& path) {
  krait_session* session = nullptr;
  krait_sampler* sampler = nullptr;
  check(krait_session_load(model.get(), path.c_str(), &session, &sampler));
  return {{model, session}, sampler == nullptr ? std::nullopt : std::optional<Sampler>(Sampler(sampler))};
}

inline Session::Loaded Session::load(const Model& model, std::span<const std::byte> bytes) {
  krait_session* session = nullptr;
  krait_sampler* sampler = nullptr;
  check(krait_session_load_bytes(model.get(), bytes.data(), bytes.size(), &session, &sampler));
  return {{model, session}, sampler == nullptr ? std::nullopt : std::optional<Sampler>(Sampler(sampler))};
}

inline StateFacts describe_state(const std::string& path) {
  StateFacts facts = KRAIT_STATE_FACTS;
  check(krait_state_describe(path.c_str(), &facts));
  return facts;
}
inline StateFacts describe_state(std::span<const std::byte> bytes) {
  StateFacts facts = KRAIT_STATE_FACTS;
  check(krait_state_describe_bytes(bytes.data(), bytes.size(), &facts));
  return facts;
}

// Writes on: up to `most` tokens, all of which are fed, until the text ends. `show` gets pieces of valid UTF-8 and
// gives false to stop. The number of tokens that were fed.
template <class Show>
std::size_t write(Session& session, Sampler& sampler, std::size_t most, Show&& show) {
  Decoder decoder(session.model());
  std::size_t written = 0;
  bool more = true;
  while (more && written < most) {
    const std::int32_t id = session.sample(sampler);
    if (session.model().ends_text(id)) break;
    session.feed(id);
    ++written;
    const std::string_view piece = decoder.feed(id);
    more = piece.empty() || show(piece);
  }
  if (const std::string_view rest = decoder.finish(); more && !rest.empty()) show(rest);
  return written;
}

}  // namespace v0
}  // namespace krait
