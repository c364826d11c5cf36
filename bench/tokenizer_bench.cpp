// Speed of encoding on one core, in bytes of text a second: English with the GPT-NeoX tokenizer and with the bundled
// model's. Without the shared data there is nothing to measure and the benchmarks say so.
#include <benchmark/benchmark.h>

#include <fstream>
#include <sstream>

#include "krait/formats/tokenizer.h"
#include "tests/support/shared_data.h"

namespace krait::formats {
namespace {

std::string english(std::size_t size) {
  const auto shared = tests::shared_data();
  if (!shared) return {};
  std::ifstream file(*shared / "data" / "tales" / "train.txt", std::ios::binary);
  std::string text(size, '\0');
  file.read(text.data(), static_cast<std::streamsize>(size));
  text.resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

void encode(benchmark::State& state, const std::filesystem::path& tokenizer_path, bool stream) {
  const auto shared = tests::shared_data();
  const std::string text = english(1 << 22);
  if (text.empty()) return state.SkipWithError("no shared data");
  const auto tokenizer = open_tokenizer(*shared / tokenizer_path);
  if (!tokenizer) return state.SkipWithError(tokenizer.error().message.c_str());
  for (auto _ : state) {
    std::vector<TokenId> ids;
    if (stream) {
      const auto encoder = (*tokenizer)->encoder();
      for (std::size_t at = 0; at < text.size(); at += 4096)
        encoder->feed(std::string_view(text).substr(at, 4096), ids);
      encoder->finish(ids);
    } else {
      ids = (*tokenizer)->encode(text);
    }
    benchmark::DoNotOptimize(ids.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}

void decode(benchmark::State& state, const std::filesystem::path& tokenizer_path) {
  const auto shared = tests::shared_data();
  const std::string text = english(1 << 22);
  if (text.empty()) return state.SkipWithError("no shared data");
  const auto tokenizer = open_tokenizer(*shared / tokenizer_path);
  if (!tokenizer) return state.SkipWithError(tokenizer.error().message.c_str());
  const auto ids = (*tokenizer)->encode(text);
  for (auto _ : state) benchmark::DoNotOptimize((*tokenizer)->decode(ids, false));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}

const std::filesystem::path kNeoX = "golden/tokenizers/gpt-neox/tokenizer.json";
const std::filesystem::path kTales = "models/tales-starter/tokenizer.json";

BENCHMARK_CAPTURE(encode, neox, kNeoX, false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, neox_stream, kNeoX, true)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, tales, kTales, false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(decode, neox, kNeoX)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace krait::formats

BENCHMARK_MAIN();
