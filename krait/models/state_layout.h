// What a sequence's state consists of. A model publishes one layout; everything that stores, forks, moves or
// speculates on states works on bundles of `bytes()` bytes and never needs to know the model.
// A bundle of zero bytes is the state before the first token.
// Keys and values of attention over all tokens are the one part that grows: they stand in pages of `page_bytes()` for
// every 64 tokens, each with all such layers' keys and values of these tokens. Only the last page of a sequence is ever
// written to, so forks can share the others. Keys and values of a sliding window are a ring inside the bundle.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/dtype.h"
#include "krait/core/tensor_view.h"
#include "krait/kernels/kv_page.h"

namespace krait::models {

enum class StateKind {
  kRecurrent,   // overwritten by every token
  kConvWindow,  // the last K-1 inputs of a causal convolution
  kKv,          // keys and values, one row a token (kernels/kv_page.h says how)
};
std::string_view to_string(StateKind kind);
using core::to_string;  // of shapes and dtypes, which the overload above would hide

struct StateTensor {
  std::string name;  // "layers.3.ssm"
  Shape shape;
  DType dtype = DType::kF32;  // i8: rows along the last dimension with scales, as kernels/state_storage.h has them
  StateKind kind = StateKind::kRecurrent;
  std::uint64_t bytes = 0;   // scales included
  std::uint64_t offset = 0;  // bytes from the start of the bundle or page, a multiple of 64
  bool paged = false;        // stands in every page; shape and bytes are those of one page
  kernels::KvShape kv = {};  // how the pages of kind kKv are divided
};

class StateLayout {
 public:
  static constexpr std::int64_t kPageTokens = kernels::kKvPageTokens;

  // Appends a tensor and returns its offset in bytes.
  std::uint64_t add(std::string name, Shape shape, DType dtype, StateKind kind);

  // Appends the keys and values of a layer that sees all tokens, to every page; returns their offset in a page.
  std::uint64_t add_paged(std::string name, const kernels::KvShape& shape);
  // Appends the keys and values of so many pages to the bundle, and the ring of a layer that sees `window` tokens.
  std::uint64_t add_bundled(std::string name, const kernels::KvShape& shape, std::int64_t pages);
  std::uint64_t add_ring(std::string name, const kernels::KvShape& shape, std::int64_t window);

  std::span<const StateTensor> tensors() const { return tensors_; }
  std::uint64_t bytes() const { return bytes_; }            // a multiple of 64
  std::uint64_t page_bytes() const { return page_bytes_; }  // a multiple of 64; 0: no pages
  std::int64_t pages_at(std::int64_t position) const { return page_bytes_ == 0 ? 0 : kernels::kv_pages(position); }
  // Of a sequence after so many tokens.
  std::uint64_t bytes_at(std::int64_t position) const {
    return bytes_ + static_cast<std::uint64_t>(pages_at(position)) * page_bytes_;
  }

 private:
  std::vector<StateTensor> tensors_;
  std::uint64_t bytes_ = 0;
  std::uint64_t page_bytes_ = 0;
};

}  // namespace krait::models
