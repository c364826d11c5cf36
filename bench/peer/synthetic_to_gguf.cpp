// Writes the weights of `krait bench --synthetic SHAPE` as a GGUF, so that llama.cpp runs the same model:
//   synthetic_to_gguf SHAPE f32|f16|bf16 OUT.gguf
// The vocabulary is a placeholder of the right size: two control tokens and the 256 bytes where GPT-NeoX has them, then
// words that no text contains. It tokenizes, byte by byte, and means nothing.
#include <fmt/ranges.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "krait/formats/gguf_writer.h"
#include "krait/formats/tokenizer_byte_alphabet.h"
#include "krait/models/gguf_checkpoint.h"
#include "krait/models/synthetic.h"

namespace {

using krait::DType;
using krait::Result;
using krait::formats::Config;

// As in krait/cli/cmd_bench.cpp.
constexpr std::uint64_t kSeed = 1234;

// llama_token_type of llama.h.
constexpr std::int64_t kNormal = 1, kControl = 3, kUnused = 5;

void add_placeholder_vocabulary(Config& metadata, std::int64_t size) {
  std::vector<std::string> words = {"<|endoftext|>", "<|padding|>"};
  std::vector<std::int64_t> types = {kControl, kControl};
  for (int byte = 0; byte < 256; ++byte) {
    words.push_back(krait::formats::spell_bytes(std::string(1, static_cast<char>(byte))));
    types.push_back(kNormal);
  }
  while (static_cast<std::int64_t>(words.size()) < size) {
    words.push_back(fmt::format("[PAD{}]", words.size()));
    types.push_back(kUnused);
  }
  metadata.set("tokenizer.ggml.model", std::string("gpt2"));
  metadata.set("tokenizer.ggml.pre", std::string("gpt-2"));
  metadata.set("tokenizer.ggml.tokens", std::move(words));
  metadata.set("tokenizer.ggml.token_type", std::move(types));
  metadata.set("tokenizer.ggml.merges", std::vector<std::string>{});
  for (const char* role : {"bos", "eos", "unknown"}) {
    metadata.set(fmt::format("tokenizer.ggml.{}_token_id", role), std::int64_t{0});
  }
  metadata.set("tokenizer.ggml.add_bos_token", false);
}

Result<void> write(std::string_view name, DType dtype, const char* path) {
  KRAIT_ASSIGN(const auto shape, krait::models::synthetic_shape(name));
  KRAIT_ASSIGN(const auto source, krait::models::as_gguf(krait::models::make_synthetic(shape, dtype, kSeed)));
  Config metadata = source->config();
  metadata.set("general.name", fmt::format("synthetic {}", name));
  add_placeholder_vocabulary(metadata, source->find("token_embd.weight")->shape.front());
  std::vector<krait::formats::NamedTensor> tensors;
  for (const auto& tensor : source->tensors()) {
    KRAIT_ASSIGN(auto view, source->view(tensor.name));
    tensors.push_back({tensor.name, std::move(view)});
  }
  return krait::formats::write_gguf(path, tensors, metadata);
}

int usage() {
  std::vector<std::string_view> names;
  for (const auto& shape : krait::models::synthetic_shapes()) names.push_back(shape.name);
  fmt::print(stderr, "usage: synthetic_to_gguf {} f32|f16|bf16 OUT.gguf\n", fmt::join(names, "|"));
  return 2;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) return usage();
  const auto dtype = krait::parse_dtype(arguments[2]);
  if (dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kBF16) return usage();
  try {
    if (const auto written = write(arguments[1], *dtype, arguments[3]); !written) {
      fmt::print(stderr, "{}\n", written.error().message);
      return 1;
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
