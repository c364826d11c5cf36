// The loop of text generation: sample, decode, show, feed back.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "krait/formats/tokenizer.h"
#include "krait/runtime/sampler.h"
#include "krait/runtime/session.h"

namespace krait::runtime {

struct GenerateOptions {
  std::int64_t max_tokens = 256;
  std::vector<TokenId> stop_ids = {};          // end the text and are not shown
  std::vector<std::string> stop_strings = {};  // end the text and are not shown
  // Feed the last token too, so that the session can go on from the whole text. Costs one step.
  bool continue_later = false;
};

enum class FinishReason { kLength, kStopToken, kStopString, kCancelled };
std::string_view to_string(FinishReason reason);

struct Generated {
  FinishReason reason = FinishReason::kLength;
  std::vector<TokenId> tokens;  // without the stop token
};

// Continues a session that has been fed at least one token. `show` gets pieces of valid UTF-8 and returns false to
// cancel. Tokens outside the tokenizer's vocabulary, or that decode to bytes that are no UTF-8, are harmless.
Generated generate(Session& session, Sampler& sampler, const formats::Tokenizer& tokenizer,
                   const GenerateOptions& options, const std::function<bool(std::string_view)>& show);

}  // namespace krait::runtime
