// A model, a tokenizer and one text that grows: what `krait run` reads and writes, where its state comes from and where
// it goes.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "krait/cli/open_model.h"
#include "krait/runtime/generate.h"
#include "krait/runtime/prefill.h"
#include "krait/runtime/session.h"

namespace krait::cli {

struct WriterOptions {
  ModelOptions model;
  runtime::SamplerOptions sampler;
  std::optional<std::uint64_t> seed;  // none: a random one, or the state's
  bool sampler_given = false;         // any option of the sampler: then those of a state do not count
  std::vector<std::string> logit_bias;
  std::vector<std::string> stop;
  std::int64_t max_tokens = 256;
  bool greedy = false;
  bool ignore_eos = false;
  std::string state;  // a state file to go on from
  std::string save;   // where the state at the end goes
  std::string cache;  // the folder of a store that outlives the program
};

struct Timing {
  std::int64_t tokens = 0;
  double seconds = 0;
  double per_second() const { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }
};

class TextWriter {
 public:
  explicit TextWriter(const WriterOptions& options);

  // Reads text into the state. The first text of a sequence gets the token that starts a text, where the tokenizer asks
  // for one or there is nothing else to go on from. Ctrl-C leaves the state where it was reached.
  void read(const std::string& text);

  using Show = std::function<bool(std::string_view)>;
  runtime::Generated write(bool continue_later, const Show& show);

  // Begins a new text.
  void forget();
  // Writes down what the options ask for; call it once, at the end.
  void keep();

  const Timing& prefill() const { return prefill_; }  // computed, not what the store had
  const Timing& decode() const { return decode_; }
  std::int64_t reused() const { return reused_; }
  const std::optional<runtime::Lookup>& lookup() const { return lookup_; }  // of the first text, with a store
  std::uint64_t seed() const { return sampler_->options().seed; }
  runtime::Engine& engine() const { return model_.engine(); }

 private:
  void open_state();
  void open_store();
  void set_sampler();

  const WriterOptions& options_;
  runtime::OpenedModel model_;
  std::unique_ptr<runtime::StateStore> store_;
  runtime::Session session_;
  std::optional<runtime::Sampler> sampler_;
  std::optional<runtime::SavedSampler> saved_sampler_;
  runtime::GenerateOptions generate_;
  std::vector<formats::TokenId> tokens_;  // all of the text, where they are known
  bool tokens_known_ = true;
  std::optional<runtime::Lookup> lookup_;
  std::int64_t reused_ = 0;
  Timing prefill_;
  Timing decode_;
};

}  // namespace krait::cli
