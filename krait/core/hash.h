// Names for content: 128 bits of XXH3, which tell apart what was not made to collide. Not a cryptographic hash.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace krait {
inline namespace core {

struct Hash128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  // 32 hexadecimal digits, the high half first.
  std::string hex() const;
  static std::optional<Hash128> parse(std::string_view hex);
  auto operator<=>(const Hash128&) const = default;
};

Hash128 hash128(std::span<const std::byte> bytes);

// The same of bytes that come in pieces.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  void feed(std::span<const std::byte> bytes);
  // With its length before it, so that neighbours cannot trade characters.
  void feed_text(std::string_view text);
  template <class Number>
  void feed_number(Number value) {
    feed(std::as_bytes(std::span(&value, 1)));
  }
  Hash128 value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The hash of a sequence of tokens from that of the sequence before them: h[n] = XXH3(h[n-1], token[n]), h[0] = 0. What
// comes out does not depend on how the tokens were cut, and says nothing of the sequence's length.
Hash128 extend_prefix(Hash128 prefix, std::span<const std::int32_t> tokens);

}  // namespace core
}  // namespace krait

template <>
struct std::hash<krait::Hash128> {
  std::size_t operator()(const krait::Hash128& hash) const noexcept { return static_cast<std::size_t>(hash.low); }
};
