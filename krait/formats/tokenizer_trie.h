// A trie over byte strings, in two flat arrays with sorted edges. Built once, read from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace krait::formats {

class ByteTrie {
 public:
  static constexpr std::uint32_t kRoot = 0;
  static constexpr std::uint32_t kNoNode = 0xFFFFFFFF;

  ByteTrie() : ByteTrie(std::vector<std::pair<std::string, std::int32_t>>()) {}
  // Values are not negative; of equal strings the one with the highest value counts.
  explicit ByteTrie(std::vector<std::pair<std::string, std::int32_t>> strings);

  std::uint32_t step(std::uint32_t node, unsigned char byte) const {
    const Node& from = nodes_[node];
    // A node of few edges is searched in order; the root and its like by halves.
    std::uint32_t low = from.first_edge;
    std::uint32_t high = low + from.edge_count;
    while (high - low > 4) {
      const std::uint32_t middle = low + (high - low) / 2;
      (edges_[middle].byte <= byte ? low : high) = middle;
    }
    for (; low < high; ++low) {
      if (edges_[low].byte == byte) return edges_[low].node;
    }
    return kNoNode;
  }
  std::int32_t value(std::uint32_t node) const { return nodes_[node].value; }  // -1: no string ends here
  bool is_leaf(std::uint32_t node) const { return nodes_[node].edge_count == 0; }

 private:
  struct Node {
    std::uint32_t first_edge = 0;
    std::uint32_t edge_count = 0;
    std::int32_t value = -1;
  };
  struct Edge {
    unsigned char byte;
    std::uint32_t node;
  };
  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
};

}  // namespace krait::formats
