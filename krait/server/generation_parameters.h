// What requests of every dialect ask of a generation, read from JSON and not yet tied to a model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "krait/runtime/sampler.h"

namespace krait::server {

struct RequestLimits {
  std::int64_t default_tokens = 512;  // where a request of chat names no number
  std::int64_t most_tokens = 65536;   // of one sequence
  std::int64_t most_sequences = 16;   // n, best_of
  std::int64_t most_prompts = 64;     // in one request
  std::int64_t most_stops = 16;
  std::int64_t most_logprobs = 20;
};

struct StructuredOutput {
  enum class Kind { none, json, json_schema, regex, choice };
  Kind kind = Kind::none;
  std::string text = {};                  // the schema as JSON, or the expression
  std::vector<std::string> choices = {};  // one of them
  std::string member = {};                // of the request, that asked for it
};

struct GenerationParameters {
  std::int64_t max_tokens = 0;
  runtime::SamplerOptions sampler = {};  // but its seed
  std::optional<std::uint64_t> seed = {};
  std::vector<std::string> stop = {};
  bool ignore_eos = false;
  std::int64_t n = 1;
  std::int64_t best_of = 1;
  std::optional<int> logprobs = {};  // how many of the likeliest tokens, beside the chosen one
  std::optional<int> prompt_logprobs = {};
  bool stream = false;
  bool include_usage = false;
  StructuredOutput structured = {};
  int priority = 0;
  std::string state = {};  // id of a stored state to go on from
  bool return_state = false;
  bool store = false;  // keep the reply's tokens under the id of the answer
};

}  // namespace krait::server
