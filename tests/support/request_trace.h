// Request traces of the form that Mooncake published (Qin et al., FAST 2025): a line of JSON a request, with the length
// of its prompt and one id for each 512 tokens. An id stands for a block *and* all before it, so a block is one symbol
// of a path here, which is exact; the reader checks that no id has two predecessors. The last id of a prompt may stand
// for less than 512 tokens: it is dropped, since states are counted at whole blocks only. Reply tokens have no ids;
// they show as blocks of the next prompt, so no state at the end of a reply can be placed and none is granted.
//
// replay_lru counts plain caches, replay_index the policy of the runtime. Both give the share of prompt tokens that a
// state stood for, of all prompt tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <list>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "krait/runtime/prefix_index.h"

namespace krait::tests {

inline constexpr std::int64_t kBlockTokens = 512;

struct RequestTrace {
  struct Request {
    std::int64_t tokens = 0;
    std::vector<std::int32_t> blocks;  // whole ones
  };
  std::vector<Request> requests;
  std::int64_t tokens = 0;
};

inline RequestTrace read_request_trace(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  RequestTrace trace;
  std::unordered_map<std::int32_t, std::int32_t> before;
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line);
    RequestTrace::Request request{json.at("input_length"), json.at("hash_ids")};
    std::int32_t previous = -1;
    for (const std::int32_t block : request.blocks) {
      if (before.emplace(block, previous).first->second != previous)
        throw std::runtime_error(path.string() + ": block " + std::to_string(block) + " follows two different ones");
      previous = block;
    }
    const auto whole = static_cast<std::size_t>(request.tokens / kBlockTokens);
    if (request.blocks.size() < whole)
      throw std::runtime_error(path.string() + ": a request has fewer ids than blocks: " + line.substr(0, 80));
    request.blocks.resize(whole);
    trace.tokens += request.tokens;
    trace.requests.push_back(std::move(request));
  }
  return trace;
}

enum class LruKeeps { every_block, last_block, last_and_junction };

struct Replay {
  double hit_rate = 0;
  std::uint64_t states = 0;  // kept at the end
};

// The least recently used state goes; junctions are found by what was ever seen.
inline Replay replay_lru(const RequestTrace& trace, std::uint64_t capacity, LruKeeps keeps) {
  std::list<std::int32_t> order;  // oldest first
  std::unordered_map<std::int32_t, std::optional<std::list<std::int32_t>::iterator>> seen;
  std::uint64_t kept = 0;
  const auto use = [&](std::int32_t block) {
    auto& place = seen[block];
    if (place) {
      order.splice(order.end(), order, *place);
      return;
    }
    if (kept == capacity) {
      seen[order.front()].reset();
      order.pop_front();
    } else {
      ++kept;
    }
    place = order.insert(order.end(), block);
  };
  std::int64_t hit = 0;
  for (const auto& [tokens, blocks] : trace.requests) {
    std::size_t agreed = 0;
    std::size_t found = 0;
    while (agreed < blocks.size()) {
      const auto place = seen.find(blocks[agreed]);
      if (place == seen.end()) break;
      ++agreed;
      if (place->second) found = agreed;
    }
    hit += static_cast<std::int64_t>(found) * kBlockTokens;
    if (found != 0) use(blocks[found - 1]);
    for (std::size_t i = agreed; i < blocks.size(); ++i) seen[blocks[i]];
    if (keeps == LruKeeps::every_block) {
      for (std::size_t i = found; i < blocks.size(); ++i) use(blocks[i]);
    } else {
      const bool junction = keeps == LruKeeps::last_and_junction && agreed > found && agreed < blocks.size();
      if (junction) use(blocks[agreed - 1]);
      if (!blocks.empty()) use(blocks.back());
    }
  }
  return {static_cast<double>(hit) / static_cast<double>(trace.tokens), kept};
}

// Lengths in `options` are in blocks, and a state has one byte.
inline Replay replay_index(const RequestTrace& trace, const runtime::PrefixIndex::Options& options) {
  runtime::PrefixIndex index(options);
  std::int64_t hit = 0;
  for (const auto& [tokens, blocks] : trace.requests) {
    const runtime::Lookup lookup = index.plan(blocks);
    hit += lookup.position * kBlockTokens;
    // As in an engine, the state that the prompt goes on from is in use until the prompt is through.
    if (lookup.entry != 0) index.pin(lookup.entry);
    for (const auto& [position, kind] : lookup.snapshots)
      index.admit(std::span(blocks).first(static_cast<std::size_t>(position)), kind, 1);
    if (lookup.entry != 0) index.unpin(lookup.entry);
  }
  return {static_cast<double>(hit) / static_cast<double>(trace.tokens), index.size()};
}

// The index's own defaults, counted in blocks. The finest grid that the trace can show is one state a block.
inline runtime::PrefixIndex::Options options_in_blocks(std::uint64_t states) {
  runtime::PrefixIndex::Options options;
  options.memory_bytes = states;
  options.grid_tokens = 1;
  options.least_gain_tokens = 1;
  options.path_tokens /= kBlockTokens;
  return options;
}

}  // namespace krait::tests
