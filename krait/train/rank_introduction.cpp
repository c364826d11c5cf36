#include "krait/train/rank_introduction.h"

#include <fmt/ranges.h>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>

#include "krait/train/network_address.h"

namespace krait::train {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

std::string to_text(const Introduction& of) {
  Json alike = Json::array();
  for (const auto& [what, value] : of.alike) alike.push_back({what, value});
  return Json{{"rank", of.peer.rank},       {"host", of.peer.host},     {"machine", of.peer.machine},
              {"address", of.peer.address}, {"pid", of.peer.process},   {"cores", of.peer.cores},
              {"first", of.first_seen_as},  {"alike", std::move(alike)}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Introduction> from_text(const std::string& text) {
  try {
    const Json json = Json::parse(text);
    Introduction of;
    of.peer = {.rank = json.at("rank").get<std::int64_t>(),
               .host = json.at("host").get<std::string>(),
               .machine = json.at("machine").get<std::string>(),
               .address = json.at("address").get<std::string>(),
               .process = json.at("pid").get<std::int64_t>(),
               .cores = json.at("cores").get<std::vector<int>>()};
    of.first_seen_as = json.at("first").get<std::string>();
    of.alike = json.at("alike").get<std::vector<std::pair<std::string, std::string>>>();
    return of;
  } catch (const Json::exception& error) {
    return fail(ErrorCode::kCorrupt, "[processes] a rank introduces itself as {}, which is no krait: {}",
                text.substr(0, 200), error.what());
  }
}

}  // namespace

Result<std::vector<Introduction>> meet(c10d::Store& store, const ProcessPlace& place, const Introduction& own,
                                       std::chrono::milliseconds timeout) {
  const auto key = [](std::int64_t rank) { return fmt::format("rank/{}", rank); };
  const auto end = Clock::now() + timeout;
  try {
    const std::string text = to_text(own);
    if (store.add(fmt::format("here/{}", place.rank), 1) > 1) {
      return fail(ErrorCode::kInvalidArgument, "[processes] there are two of rank {} at the store at {}:{}", place.rank,
                  place.address, place.port);
    }
    store.set(key(place.rank), std::vector<std::uint8_t>(text.begin(), text.end()));
    std::vector<Introduction> all;
    while (std::ssize(all) < place.ranks) {
      const std::int64_t next = std::ssize(all);
      if (store.check({key(next)})) {
        const std::vector<std::uint8_t> said = store.get(key(next));
        KRAIT_ASSIGN(Introduction of, from_text(std::string(said.begin(), said.end())));
        all.push_back(std::move(of));
        continue;
      }
      if (Clock::now() < end) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        continue;
      }
      std::vector<std::int64_t> missing;
      for (std::int64_t rank = next; rank < place.ranks; ++rank) {
        if (!store.check({key(rank)})) missing.push_back(rank);
      }
      return fail(ErrorCode::kInputOutput,
                  "[processes] rank {} waited {} s at {}:{} for rank {} of {}, as {}'s variables have it: has the "
                  "launcher started all of them (in a Slurm script: with srun)?",
                  place.rank, std::chrono::duration<double>(timeout).count(), place.address, place.port,
                  fmt::join(missing, ", "), place.ranks, place.launcher);
    }
    return all;
  } catch (const std::exception& error) {
    return fail(ErrorCode::kInputOutput, "[processes] rank {} of {} lost the store at {}:{} while the others came: {}",
                place.rank, place.ranks, place.address, place.port, first_line(error));
  }
}

Result<void> check_introductions(const std::vector<Introduction>& all) {
  const Introduction& first = all.front();
  for (const Introduction& of : all) {
    for (std::size_t i = 0; i < first.alike.size(); ++i) {
      const auto& [what, value] = first.alike[i];
      if (i < of.alike.size() && of.alike[i] == first.alike[i]) continue;
      return fail(ErrorCode::kInvalidArgument, "[processes] {} is {} at {} and {} at {}", what, value,
                  first.peer.text(), i < of.alike.size() ? of.alike[i].second : "nothing", of.peer.text());
    }
  }
  return {};
}

Result<std::string> address_to_serve(const std::vector<Introduction>& all, std::int64_t rank) {
  const Peer& own = all[static_cast<std::size_t>(rank)].peer;
  if (!is_loopback(own.address)) return own.address;
  for (const Introduction& other : all) {
    if (other.peer.machine == own.machine) continue;
    if (own.machine == all.front().peer.machine && !is_loopback(other.first_seen_as)) return other.first_seen_as;
    return fail(ErrorCode::kInvalidArgument,
                "[processes] {} would listen on {}, where {} cannot reach it: GLOO_SOCKET_IFNAME names the interface "
                "to use, and MASTER_ADDR an address of rank 0 that all can reach",
                own.text(), own.address, other.peer.text());
  }
  return own.address;
}

std::string first_line(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

std::string Peer::text() const { return fmt::format("rank {} (process {} on {}, {})", rank, process, host, address); }

int share_of_cores(std::span<const Peer> peers, std::int64_t rank) {
  const Peer& own = peers[static_cast<std::size_t>(rank)];
  double share = 0.0;
  for (const int core : own.cores) {
    share += 1.0 / static_cast<double>(std::ranges::count_if(peers, [&](const Peer& peer) {
               return peer.machine == own.machine && std::ranges::find(peer.cores, core) != peer.cores.end();
             }));
  }
  // Thirds of a core add up to a little less than they are.
  return std::max(1, static_cast<int>(share + 1e-6));
}

}  // namespace krait::train
