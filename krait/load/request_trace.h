// Requests as they once came to a real service: lines of a CSV file with a time, the tokens of the prompt and those of
// the reply. The first line names the columns; Azure's traces (Patel et al., "Splitwise", ISCA 2024) have TIMESTAMP,
// ContextTokens and GeneratedTokens.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "krait/core/error.h"

namespace krait::load {

struct TracedRequest {
  double at = 0;  // seconds after the first
  std::int64_t prompt_tokens = 0;
  std::int64_t reply_tokens = 0;
};

// Times are seconds, or "2023-11-16 18:15:46.6805900". kCorrupt with the number of the line.
Result<std::vector<TracedRequest>> read_trace(std::string_view text, std::string_view origin);

}  // namespace krait::load
