#include "krait/cli/text_writer.h"

#include <fmt/format.h>

#include <random>

#include "krait/cli/command.h"
#include "krait/cli/terminal.h"
#include "krait/runtime/prompt.h"
#include "krait/runtime/state_saving.h"

namespace krait::cli {
namespace {

using Clock = std::chrono::steady_clock;
using formats::TokenId;

std::pair<TokenId, float> parse_bias(const std::string& text) {
  const auto colon = text.find(':');
  try {
    if (colon != std::string::npos) return {std::stoi(text.substr(0, colon)), std::stof(text.substr(colon + 1))};
  } catch (const std::exception&) {  // not numbers: the message below says what is expected
  }
  throw UserError(fmt::format("--logit-bias {} is not ID:BIAS", text), "for example --logit-bias 17:-5.5");
}

// The work between two points in time, added to a Timing.
class Stretch {
 public:
  explicit Stretch(Timing& timing) : timing_(timing), start_(Clock::now()) {}
  ~Stretch() { timing_.seconds += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Stretch(const Stretch&) = delete;
  Stretch& operator=(const Stretch&) = delete;

 private:
  Timing& timing_;
  Clock::time_point start_;
};

}  // namespace

TextWriter::TextWriter(const WriterOptions& options)
    : options_(options), model_(open_model_with_tokenizer(options.model)), session_(model_.engine()) {
  generate_.max_tokens = options.max_tokens;
  generate_.stop_strings = options.stop;
  if (!options.ignore_eos) {
    generate_.stop_ids = runtime::end_of_text_ids(engine().model().info(), model_.tokenizer());
  }
  if (!options.state.empty()) open_state();
  if (!options.cache.empty()) open_store();
  set_sampler();
}

void TextWriter::open_state() {
  const auto object = value_or_throw(formats::StateObject::open(options_.state));
  auto restored = value_or_throw(runtime::restore_state(object, model_.engine(), value_or_throw(model_.identity())));
  session_ = runtime::Session(model_.engine(), restored.state);
  tokens_ = std::move(restored.tokens);
  tokens_known_ = static_cast<std::int64_t>(tokens_.size()) == session_.position();
  saved_sampler_ = std::move(restored.sampler);
}

// A store that cannot be used is no reason not to write: the text is the same without it.
void TextWriter::open_store() {
  auto opened = runtime::StateStore::open(model_.engine(), value_or_throw(model_.identity()),
                                          {.folder = options_.cache, .grid_on_disk = true});
  if (opened) {
    store_ = *std::move(opened);
    return;
  }
  const Style style = Style::for_stream(stderr);
  fmt::print(stderr, "{}going on without --cache: {}{}\n", style.dim, opened.error().message, style.reset);
}

void TextWriter::set_sampler() {
  const std::int64_t vocabulary = runtime::drawable_vocabulary(engine().model().info(), model_.tokenizer());
  if (saved_sampler_ && !options_.sampler_given) {
    sampler_ = value_or_throw(runtime::Sampler::restore(*saved_sampler_, vocabulary));
    return;
  }
  runtime::SamplerOptions sampler = options_.sampler;
  if (options_.greedy) sampler.temperature = 0;
  sampler.seed = options_.seed ? *options_.seed : std::random_device{}();
  for (const std::string& bias : options_.logit_bias) sampler.logit_bias.push_back(parse_bias(bias));
  sampler_.emplace(sampler, vocabulary);
}

void TextWriter::read(const std::string& text) {
  const std::int64_t before = session_.position();
  const std::vector<TokenId> ids =
      runtime::encode_prompt(engine().model().info(), *model_.tokenizer(), text, before == 0);
  if (ids.empty() && session_.logits().empty()) {
    throw CommandError(before == 0 ? std::string("the prompt is empty and the model has no token to start a text")
                                   : fmt::format("{} keeps no logits: give a text to go on with", options_.state));
  }
  const Stretch stretch(prefill_);
  Progress progress("reading", static_cast<std::int64_t>(ids.size()), "tokens");
  const auto reached = [&](std::int64_t position) {
    progress.update(position - before);
    return !InterruptGuard::interrupted();
  };
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  if (store_ && tokens_known_ && before == 0) {
    auto prefilled = runtime::prefill(model_.engine(), store_.get(), tokens_, reached);
    session_ = std::move(prefilled.session);
    reused_ = prefilled.reused;
    prefill_.tokens += prefilled.computed;
    lookup_ = std::move(prefilled.lookup);
  } else {
    prefill_.tokens += session_.feed(ids, reached);
  }
  tokens_.resize(tokens_.size() - ids.size() + static_cast<std::size_t>(session_.position() - before));
  sampler_->observe_prompt(ids);
}

runtime::Generated TextWriter::write(bool continue_later, const Show& show) {
  generate_.continue_later = continue_later || !options_.save.empty() || store_;
  const Stretch stretch(decode_);
  auto generated = runtime::generate(session_, *sampler_, *model_.tokenizer(), generate_, show);
  decode_.tokens += static_cast<std::int64_t>(generated.tokens.size());
  tokens_.insert(tokens_.end(), generated.tokens.begin(), generated.tokens.end());
  if (store_ && tokens_known_) store_->admit(tokens_, session_.snapshot(), runtime::StateKind::reply);
  return generated;
}

void TextWriter::forget() {
  session_ = runtime::Session(model_.engine());
  tokens_.clear();
  tokens_known_ = true;
}

void TextWriter::keep() {
  if (!options_.save.empty()) {
    runtime::StateExtras extras;
    extras.sampler = &*sampler_;
    if (tokens_known_) extras.tokens = tokens_;
    value_or_throw(runtime::save_state(options_.save, model_.engine(), value_or_throw(model_.identity()),
                                       session_.snapshot(), extras));
  }
  if (store_) value_or_throw(store_->flush());
}

}  // namespace krait::cli
