// A trained tokenizer as the files of Hugging Face. What of it is said where is known to the writer that turns GGUF's
// keys into these files; they are filled in here.
#include "krait/formats/config.h"
#include "krait/formats/gguf_types.h"
#include "krait/formats/tokenizer_byte_alphabet.h"
#include "krait/formats/tokenizer_conversion.h"
#include "krait/train/tokenizer_training.h"

namespace krait::train {

Result<TokenizerFiles> tokenizer_files(const TrainedTokenizer& trained) {
  const std::size_t special = trained.options.special_tokens.size();
  std::vector<std::string> tokens, merges;
  std::vector<std::int64_t> types;
  for (std::size_t id = 0; id < trained.tokens.size(); ++id) {
    tokens.push_back(id < special ? trained.tokens[id] : formats::spell_bytes(trained.tokens[id]));
    types.push_back(id < special ? formats::kGgufControlToken : formats::kGgufNormalToken);
  }
  for (const auto& [left, right] : trained.merges) {
    merges.push_back(tokens[static_cast<std::size_t>(left)] + " " + tokens[static_cast<std::size_t>(right)]);
  }
  formats::Config keys("trained tokenizer");
  keys.set("tokenizer.ggml.model", "gpt2");
  keys.set("tokenizer.ggml.pre", trained.options.split);
  keys.set("tokenizer.ggml.tokens", std::move(tokens));
  keys.set("tokenizer.ggml.token_type", std::move(types));
  keys.set("tokenizer.ggml.merges", std::move(merges));
  keys.set("tokenizer.ggml.add_bos_token", false);
  if (special > 0) keys.set("tokenizer.ggml.eos_token_id", std::int64_t{0});
  KRAIT_ASSIGN(formats::VocabularyFiles files, formats::vocabulary_from_gguf(keys));
  return TokenizerFiles{std::move(files.tokenizer), std::move(files.config)};
}

}  // namespace krait::train
