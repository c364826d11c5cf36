// Builds the trie breadth first from the sorted strings: each node is a range of strings that share its path.
#include "krait/formats/tokenizer_trie.h"

#include <algorithm>
#include <cstddef>

namespace krait::formats {

ByteTrie::ByteTrie(std::vector<std::pair<std::string, std::int32_t>> strings) {
  std::sort(strings.begin(), strings.end());
  struct Range {
    std::size_t first, last, depth;
  };
  std::vector<Range> ranges{{0, strings.size(), 0}};
  nodes_.emplace_back();
  for (std::size_t n = 0; n < ranges.size(); ++n) {
    auto [at, last, depth] = ranges[n];
    nodes_[n].first_edge = static_cast<std::uint32_t>(edges_.size());
    for (; at < last && strings[at].first.size() == depth; ++at) {
      if (depth > 0) nodes_[n].value = strings[at].second;
    }
    while (at < last) {
      const auto byte = static_cast<unsigned char>(strings[at].first[depth]);
      std::size_t end = at + 1;
      while (end < last && static_cast<unsigned char>(strings[end].first[depth]) == byte) ++end;
      edges_.push_back({byte, static_cast<std::uint32_t>(nodes_.size())});
      ++nodes_[n].edge_count;
      nodes_.emplace_back();
      ranges.push_back({at, end, depth + 1});
      at = end;
    }
  }
}

}  // namespace krait::formats
