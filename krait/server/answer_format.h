// How the answer of a generation is written: whole, or as a stream of pieces. One for each dialect.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krait/runtime/generate.h"
#include "krait/server/api_error.h"
#include "krait/server/tool_call_reader.h"

namespace krait::server {

// A token and the likeliest ones in its place, as bytes, which may be half a character.
struct ShownLogprob {
  std::string token;
  float logprob = 0.0F;
  std::vector<std::pair<std::string, float>> top = {};  // the likeliest first
  bool known = true;                                    // nothing is, of a text's first token
};

struct ShownState {
  std::string id;
  std::uint64_t bytes = 0;
  std::int64_t position = 0;
  double expires_in_seconds = 0;
};

// One sequence of the answer, when it has ended.
struct SequenceResult {
  std::string text;  // beside the calls
  std::vector<ToolCall> calls;
  std::vector<ShownLogprob> logprobs;  // of every token, where they were asked for
  bool with_logprobs = false;
  runtime::FinishReason reason = runtime::FinishReason::kLength;
  std::int64_t prompt_tokens = 0;
  std::int64_t reused_tokens = 0;
  std::int64_t generated_tokens = 0;
  std::string lookup;  // what the store of states had
  std::optional<ShownState> state;
  double prompt_seconds = 0;
  double decode_seconds = 0;
};

class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;
  virtual std::string whole(std::span<const SequenceResult> results) const = 0;

  // A stream: openings and pieces of its sequences in any order, a closing for each, and its end. Empty: nothing to
  // send.
  virtual std::string stream_type() const = 0;
  virtual std::string opening(std::size_t index) const = 0;
  virtual std::string piece(std::size_t index, const std::string& text,
                            std::span<const ShownLogprob> logprobs) const = 0;
  // More of a call of a function. A dialect that has none gets none.
  virtual std::string call(std::size_t, const ReplyPart&, const ToolCall&) const { return {}; }
  virtual std::string closing(std::size_t index, const SequenceResult& result) const = 0;
  virtual std::string end(std::span<const SequenceResult> results) const = 0;
  virtual std::string failure(const ApiError& error) const = 0;  // in the middle of a stream
};

}  // namespace krait::server
