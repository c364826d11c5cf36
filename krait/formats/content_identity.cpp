#include "krait/formats/content_identity.h"

#include <algorithm>
#include <variant>

namespace krait::formats {
namespace {

void feed_value(Hasher& hasher, const Config::Value& value) {
  hasher.feed_number(static_cast<std::uint64_t>(value.index()));
  std::visit(
      [&](const auto& content) {
        using Content = std::decay_t<decltype(content)>;
        if constexpr (std::is_same_v<Content, std::string>) {
          hasher.feed_text(content);
        } else if constexpr (std::is_arithmetic_v<Content>) {
          hasher.feed_number(content);
        } else if constexpr (!std::is_same_v<Content, std::monostate>) {
          hasher.feed_number(static_cast<std::uint64_t>(content.size()));
          for (const auto& element : content) {
            if constexpr (std::is_same_v<Content, std::vector<std::string>>) {
              hasher.feed_text(element);
            } else {
              hasher.feed_number(static_cast<typename Content::value_type>(element));
            }
          }
        }
      },
      value);
}

// Words, numbers, white space, several scripts, marks that join, and symbols: what pre-tokenizers and normalizers treat
// differently.
constexpr std::string_view kProbe =
    "The quick brown fox's 12,345.67 jumps -- isn't it?\n\n\tint main() { return 0; }  \r\n"
    "\xc3\x84"
    "rger na\xc3\xafve Cafe\xcc\x81 \xd0\x9c\xd0\xb8\xd1\x80 \xe4\xb8\x96\xe7\x95\x8c \xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d "
    "\xf0\x9f\x90\x8d\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x94\xac 2026-01-31 'Tis we'll THEY'RE aaaaaaaa";

}  // namespace

Result<Hash128> weights_identity(const WeightSource& source, ThreadPool& pool) {
  const std::span<const TensorInfo> tensors = source.tensors();
  // A hash for every stretch of a tensor, so that threads share the work of a large one too; the stretches are part of
  // what the identity is.
  constexpr std::uint64_t kStretch = std::uint64_t{64} << 20;
  struct Task {
    std::size_t tensor;
    std::uint64_t first;
  };
  std::vector<Task> tasks;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    for (std::uint64_t first = 0; first == 0 || first < tensors[i].bytes; first += kStretch)
      tasks.push_back({i, first});
  }
  std::vector<Result<Hash128>> hashes(tasks.size());
  pool.parallel_for(static_cast<std::int64_t>(tasks.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      const auto view = source.view(tensors[tasks[i].tensor].name);
      if (!view) {
        hashes[i] = std::unexpected(view.error());
        continue;
      }
      const auto rest = view->bytes.subspan(std::min<std::size_t>(tasks[i].first, view->bytes.size()));
      hashes[i] = hash128(rest.first(std::min<std::size_t>(rest.size(), kStretch)));
      source.release(tensors[tasks[i].tensor].name);
    }
  });

  Hasher hasher;
  for (const auto& [key, value] : source.config().values()) {
    hasher.feed_text(key);
    feed_value(hasher, value);
  }
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const TensorInfo& tensor = tensors[tasks[i].tensor];
    if (tasks[i].first == 0) {
      hasher.feed_text(tensor.name);
      hasher.feed_text(to_string(tensor.dtype));
      hasher.feed_text(to_string(tensor.shape));
    }
    KRAIT_TRY(hashes[i]);
    hasher.feed_number(hashes[i]->high);
    hasher.feed_number(hashes[i]->low);
  }
  return hasher.value();
}

Hash128 tokenizer_identity(const Tokenizer& tokenizer) {
  Hasher hasher;
  hasher.feed_number(tokenizer.size());
  for (TokenId id = 0; id < static_cast<TokenId>(tokenizer.size()); ++id) {
    hasher.feed_text(tokenizer.token_bytes(id));
    hasher.feed_number(static_cast<std::uint8_t>(tokenizer.is_special(id)));
  }
  for (const TokenId id : tokenizer.encode(kProbe)) hasher.feed_number(id);
  return hasher.value();
}

}  // namespace krait::formats
