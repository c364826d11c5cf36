// Selective copying of Birdie (Blouir et al. 2024): spans of a text are asked for by the tokens before and after them,
// in an order by chance, before the text ("query first") or after it. What is to be written is each query's sentinel
// and its span. Not the synthetic task of the same name (task_selective_copying.cpp).
//
//   query   sentinel, tokens before the span, mask, tokens after it
//   source  queries, mask, text     or     text, mask, queries
//   target  sentinel, span, sentinel, span, …
#include <algorithm>

#include "krait/train/objective_list.h"
#include "krait/train/objective_spans.h"
#include "krait/train/random_stream.h"

namespace krait::train {
namespace {

class SelectiveCopyingOfSpans final : public Objective {
 public:
  SelectiveCopyingOfSpans(const ObjectiveValues& values, const ObjectiveTokens& tokens)
      : spans_(std::min(static_cast<std::int64_t>(values.at("spans")), tokens.sentinels)),
        mean_(values.at("span")),
        shortest_(static_cast<std::int64_t>(values.at("shortest_delimiter"))),
        longest_(std::max(shortest_, static_cast<std::int64_t>(values.at("longest_delimiter")))),
        query_first_(values.at("query_first") != 0),
        tokens_(tokens) {}

  std::optional<ObjectiveExample> transform(std::span<const std::int32_t> document, std::int64_t room,
                                            Random& random) const override {
    // Delimiters by chance, then spans, then as much text as the room allows.
    struct Query {
      std::int64_t length, before, after;
    };
    std::vector<Query> queries;
    std::int64_t around = 2;  // tokens beside the text: separator, mask, queries, answers
    std::int64_t needed = 0;  // of text, for spans with their delimiters side by side
    for (std::int64_t i = 0; i < spans_; ++i) {
      Query query;
      query.length = std::max<std::int64_t>(1, poisson(random, mean_));
      query.before = between(random, shortest_, longest_);
      query.after = between(random, shortest_, longest_);
      const std::int64_t more = 3 + query.before + query.after + query.length;
      const std::int64_t block = query.before + query.length + query.after;
      const std::int64_t text = std::min(static_cast<std::int64_t>(document.size()), room - around - more);
      if (needed + block > text) continue;
      around += more;
      needed += block;
      queries.push_back(query);
    }
    if (queries.empty()) return std::nullopt;
    const auto used = std::min(static_cast<std::int64_t>(document.size()), room - around);
    const auto text = document.first(static_cast<std::size_t>(used));

    std::vector<std::int64_t> blocks;
    for (const Query& query : queries) blocks.push_back(query.before + query.length + query.after);
    const auto places = place_spans(random, used, blocks, 0);
    std::vector<std::size_t> order(queries.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    shuffle(random, std::span(order));

    std::vector<std::int32_t> asked, target;
    std::int32_t sentinel = tokens_.first_sentinel;
    for (const std::size_t i : order) {
      const auto block = text.begin() + places[i].begin;
      const auto span = block + queries[i].before;
      const auto after = span + queries[i].length;
      asked.push_back(sentinel);
      asked.insert(asked.end(), block, span);
      asked.push_back(tokens_.mask);
      asked.insert(asked.end(), after, after + queries[i].after);
      target.push_back(sentinel++);
      target.insert(target.end(), span, after);
    }
    std::vector<std::int32_t> source;
    if (query_first_) source = asked;
    if (!query_first_) source.assign(text.begin(), text.end());
    source.push_back(tokens_.mask);
    if (query_first_) source.insert(source.end(), text.begin(), text.end());
    if (!query_first_) source.insert(source.end(), asked.begin(), asked.end());
    return ObjectiveExample{example_of(source, target, tokens_), used};
  }

 private:
  std::int64_t spans_;
  double mean_;
  std::int64_t shortest_, longest_;
  bool query_first_;
  ObjectiveTokens tokens_;
};

}  // namespace

const ObjectiveKind kSelectiveCopyingObjective = {
    "selective_copying",
    "write the spans that stand between given tokens",
    {{"spans", 8, 1, 1000, true, "the most spans; never more than the tokenizer has sentinels"},
     {"span", 8, 1, 100, false, "mean tokens of a span"},
     {"shortest_delimiter", 8, 1, 1000, true, "the fewest tokens that tell where a span begins or ends"},
     {"longest_delimiter", 64, 1, 1000, true, "the most; at least the fewest"},
     {"query_first", 1, 0, 1, true, "1: what is asked for stands before the text; 0: after it"}},
    [](const ObjectiveValues& values, const ObjectiveTokens& tokens) -> std::unique_ptr<Objective> {
      return std::make_unique<SelectiveCopyingOfSpans>(values, tokens);
    }};

}  // namespace krait::train
