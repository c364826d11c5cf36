#include "krait/runtime/generate.h"

#include <algorithm>

#include "krait/core/check.h"
#include "krait/runtime/stop_strings.h"

namespace krait::runtime {

std::string_view to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength: return "length";
    case FinishReason::kStopToken: return "stop token";
    case FinishReason::kStopString: return "stop string";
    case FinishReason::kCancelled: return "cancelled";
  }
  return "unknown";
}

Generated generate(Session& session, Sampler& sampler, const formats::Tokenizer& tokenizer,
                   const GenerateOptions& options, const std::function<bool(std::string_view)>& show) {
  KRAIT_CHECK(!session.logits().empty(), "generation needs a session that has read a token");
  Generated result;
  formats::TokenDecoder decoder(tokenizer);
  StopStrings stop(options.stop_strings);
  const auto shown = [&](const std::string& text) { return text.empty() || show(text); };

  while (static_cast<std::int64_t>(result.tokens.size()) < options.max_tokens) {
    const TokenId id = sampler.sample(session.logits());
    if (std::ranges::find(options.stop_ids, id) != options.stop_ids.end()) {
      result.reason = FinishReason::kStopToken;
      break;
    }
    result.tokens.push_back(id);
    const bool more = shown(stop.feed(decoder.feed(id)));
    const bool last = stop.found() || !more || static_cast<std::int64_t>(result.tokens.size()) == options.max_tokens;
    if (!last || options.continue_later) session.feed({&id, 1});
    if (stop.found()) {
      result.reason = FinishReason::kStopString;
      return result;
    }
    if (!more) {
      result.reason = FinishReason::kCancelled;
      return result;
    }
  }
  shown(stop.feed(decoder.finish()));
  shown(stop.finish());
  return result;
}

}  // namespace krait::runtime
