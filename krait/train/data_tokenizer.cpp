#include "krait/train/data_tokenizer.h"

#include "krait/formats/mapped_file.h"

namespace krait::train {

Result<std::unique_ptr<formats::Tokenizer>> open_tokenizer_json(const std::string& path) {
  KRAIT_ASSIGN(const auto file, formats::MappedFile::open(path));
  const auto bytes = file.bytes();
  return formats::parse_tokenizer_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

std::optional<formats::TokenId> end_of_text(const formats::Tokenizer& tokenizer) {
  return tokenizer.eos() ? tokenizer.eos() : tokenizer.token_to_id("<|endoftext|>");
}

}  // namespace krait::train
