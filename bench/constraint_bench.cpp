// What a token mask costs. `new`: the first time a state is met, which walks the vocabulary's trie; `known`: any later
// time, which copies; `walk`: whole texts of random allowed tokens, with what was learnt before kept. Vocabularies: the
// bundled model's (2 k) and GPT-NeoX's (50 k, in the shared data). Compiling a schema is measured beside.
#include <benchmark/benchmark.h>

#include <bit>
#include <filesystem>
#include <string>
#include <vector>

#include "krait/core/random.h"
#include "krait/formats/grammar_regex.h"
#include "krait/formats/json_schema.h"
#include "krait/runtime/constraint.h"
#include "tests/support/shared_data.h"

namespace krait::runtime {
namespace {

constexpr const char* kRecord = R"({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type":
    "integer", "minimum": 0, "maximum": 150}, "tags": {"type": "array", "items": {"type": "string"}}}, "required":
    ["name", "age", "tags"]})";

struct Vocabulary {
  std::shared_ptr<const ConstraintVocabulary> tokens;
  TokenId end = 0;
  std::string missing;
};

const Vocabulary& vocabulary(bool is_large) {
  static const auto open = [](bool large) {
    std::filesystem::path path = std::filesystem::path(KRAIT_SOURCE_DIR) / "models" / "tales" / "tokenizer.json";
    if (large) {
      const auto shared = tests::shared_data();
      if (!shared) return Vocabulary{nullptr, 0, "no shared data"};
      path = *shared / "golden" / "tokenizers" / "gpt-neox" / "tokenizer.json";
    }
    const auto tokenizer = formats::open_tokenizer(path);
    if (!tokenizer) return Vocabulary{nullptr, 0, tokenizer.error().message};
    return Vocabulary{ConstraintVocabulary::of(**tokenizer), (*tokenizer)->token_to_id("<|endoftext|>").value_or(0),
                      ""};
  };
  static const Vocabulary small = open(false), large = open(true);
  return is_large ? large : small;
}

std::shared_ptr<const Constraint> compile(benchmark::State& state, const formats::Grammar& grammar, bool is_large) {
  const Vocabulary& words = vocabulary(is_large);
  if (!words.tokens) {
    state.SkipWithError(words.missing.c_str());
    return nullptr;
  }
  auto constraint = Constraint::compile(grammar, words.tokens, {words.end});
  if (constraint) return *constraint;
  state.SkipWithError(constraint.error().message.c_str());
  return nullptr;
}

formats::Grammar grammar_of(const std::string& kind) {
  if (kind == "json_object") return formats::grammar_of_json_object({});
  if (kind == "schema") return *formats::grammar_of_json_schema(kRecord, {});
  return *formats::grammar_of_regex(kind);
}

// The mask behind `prefix`, by a constraint that knows nothing yet.
void mask_new(benchmark::State& state, const std::string& kind, const std::string& prefix, bool is_large) {
  const formats::Grammar grammar = grammar_of(kind);
  std::vector<std::uint64_t> mask;
  std::int64_t visited = 0;
  for (auto _ : state) {
    state.PauseTiming();
    const auto constraint = compile(state, grammar, is_large);
    if (!constraint) return;
    ConstraintMatcher matcher(constraint);
    if (!matcher.accept_bytes(prefix)) return state.SkipWithError("the prefix does not fit");
    mask.resize(constraint->mask_words());
    state.ResumeTiming();
    matcher.allowed(mask);
    benchmark::DoNotOptimize(mask.data());
    state.PauseTiming();
    visited = constraint->work().nodes_visited;
    state.ResumeTiming();
  }
  state.counters["nodes"] = static_cast<double>(visited);
}

void mask_known(benchmark::State& state, const std::string& kind, const std::string& prefix, bool is_large) {
  const auto constraint = compile(state, grammar_of(kind), is_large);
  if (!constraint) return;
  ConstraintMatcher matcher(constraint);
  if (!matcher.accept_bytes(prefix)) return state.SkipWithError("the prefix does not fit");
  std::vector<std::uint64_t> mask(constraint->mask_words());
  for (auto _ : state) {
    matcher.allowed(mask);
    benchmark::DoNotOptimize(mask.data());
  }
}

// One token of a random text: its mask and its acceptance.
void walk(benchmark::State& state, const std::string& kind, bool is_large) {
  const auto constraint = compile(state, grammar_of(kind), is_large);
  if (!constraint) return;
  std::vector<std::uint64_t> mask(constraint->mask_words());
  Random random(1);
  ConstraintMatcher matcher(constraint);
  for (auto _ : state) {
    matcher.allowed(mask);
    // The first allowed token from a random place on.
    std::size_t at = random.next() % mask.size();
    while (mask[at] == 0) at = (at + 1) % mask.size();
    matcher.accept(static_cast<TokenId>(at * 64 + static_cast<std::size_t>(std::countr_zero(mask[at]))));
    if (matcher.finished()) matcher = ConstraintMatcher(constraint);
  }
  const Constraint::Work work = constraint->work();
  state.counters["made"] = static_cast<double>(work.masks_made) / static_cast<double>(work.masks);
}

void compile_schema(benchmark::State& state) {
  for (auto _ : state) {
    const auto grammar = formats::grammar_of_json_schema(kRecord, {});
    benchmark::DoNotOptimize(Constraint::compile(*grammar, vocabulary(false).tokens, {0}));
  }
}

const std::string kInString = "{\"name\":\"";

BENCHMARK_CAPTURE(mask_new, start_2k, "json_object", "", false)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(mask_new, start_50k, "json_object", "", true)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(mask_new, string_2k, "json_object", kInString, false)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(mask_new, string_50k, "json_object", kInString, true)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(mask_new, schema_string_50k, "schema", kInString, true)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(mask_new, digits_50k, "[0-9]{3}-[0-9]{4}", "", true)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(mask_known, string_2k, "json_object", kInString, false)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(mask_known, string_50k, "json_object", kInString, true)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(walk, json_object_2k, "json_object", false)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(walk, json_object_50k, "json_object", true)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(walk, schema_50k, "schema", true)->Unit(benchmark::kMicrosecond);
BENCHMARK(compile_schema)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace krait::runtime

BENCHMARK_MAIN();
