#include "krait/train/launcher_environment.h"

#include <array>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <vector>

namespace krait::train {
namespace {

constexpr std::int64_t kMostRanks = 1 << 16;
constexpr std::int64_t kDefaultPort = 29500;  // PyTorch's
// Ports of Slurm jobs: below those that systems hand out by themselves.
constexpr std::int64_t kFirstJobPort = 20000, kJobPorts = 10000;

Result<std::optional<std::int64_t>> number(const Environment& environment, const std::string& name, std::int64_t low,
                                           std::int64_t high) {
  const std::optional<std::string> text = environment(name);
  if (!text) return std::nullopt;
  std::int64_t value = 0;
  const char* end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, value);
  if (error != std::errc() || stop != end || value < low || value > high) {
    return fail(ErrorCode::kInvalidArgument, "[processes] {} is '{}': a whole number from {} to {} is wanted", name,
                *text, low, high);
  }
  return value;
}

// What one family of variables says.
struct Claim {
  std::string launcher, rank_name, ranks_name;
  std::int64_t rank = 0, ranks = 1;
};

Result<std::optional<Claim>> claim(const Environment& environment, const char* launcher, const std::string& rank_name,
                                   const std::string& ranks_name) {
  KRAIT_ASSIGN(const std::optional<std::int64_t> rank, number(environment, rank_name, 0, kMostRanks));
  KRAIT_ASSIGN(const std::optional<std::int64_t> ranks, number(environment, ranks_name, 1, kMostRanks));
  if (!rank && !ranks) return std::nullopt;
  if (!rank || !ranks) {
    return fail(ErrorCode::kInvalidArgument, "[processes] {} is set and {} is not: a launcher sets both",
                rank ? rank_name : ranks_name, rank ? ranks_name : rank_name);
  }
  if (*rank >= *ranks) {
    return fail(ErrorCode::kInvalidArgument, "[processes] {} is {} and {} is {}: ranks are 0 to {}", rank_name, *rank,
                ranks_name, *ranks, *ranks - 1);
  }
  return Claim{launcher, rank_name, ranks_name, *rank, *ranks};
}

Result<std::optional<Claim>> slurm_claim(const Environment& environment) {
  // The number of tasks alone says nothing: a shell inside an allocation has it, too.
  if (!environment("SLURM_PROCID")) return std::nullopt;
  for (const char* ranks_name : {"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}) {
    if (environment(ranks_name)) return claim(environment, "Slurm", "SLURM_PROCID", ranks_name);
  }
  return std::nullopt;
}

Result<void> check_agree(const Environment& environment, const std::vector<Claim>& claims) {
  // torchrun under an MPI's launcher numbers processes of its own.
  if (environment("TORCHELASTIC_RUN_ID")) return {};
  const Claim& first = claims.front();
  for (const Claim& other : claims) {
    if (other.rank == first.rank && other.ranks == first.ranks) continue;
    return fail(ErrorCode::kInvalidArgument,
                "[processes] {} and {} say rank {} of {}, {} and {} say rank {} of {}: one of them has to be unset",
                first.rank_name, first.ranks_name, first.rank, first.ranks, other.rank_name, other.ranks_name,
                other.rank, other.ranks);
  }
  return {};
}

Result<void> find_store(const Environment& environment, const Claim& of, ProcessPlace& place) {
  KRAIT_ASSIGN(const std::optional<std::int64_t> port, number(environment, "MASTER_PORT", 1, 65535));
  const std::optional<std::string> address = environment("MASTER_ADDR");
  place.port = static_cast<std::uint16_t>(port.value_or(kDefaultPort));
  if (address && !address->empty()) place.address = *address;
  if (of.launcher == "torchrun") {
    if (place.address.empty() || !port) {
      return fail(ErrorCode::kInvalidArgument, "[processes] {} is set and {} is not: where rank 0 is to be found",
                  of.rank_name, place.address.empty() ? "MASTER_ADDR" : "MASTER_PORT");
    }
    place.store_is_served = environment("TORCHELASTIC_USE_AGENT_STORE").value_or("") == "True";
    KRAIT_ASSIGN(const std::optional<std::int64_t> attempt,
                 number(environment, "TORCHELASTIC_RESTART_COUNT", 0, std::numeric_limits<std::int32_t>::max()));
    place.attempt = attempt.value_or(0);
    return {};
  }
  if (of.launcher == "Slurm") {
    KRAIT_ASSIGN(const std::optional<std::int64_t> job,
                 number(environment, "SLURM_JOB_ID", 0, std::numeric_limits<std::int64_t>::max()));
    if (job && !port) place.port = static_cast<std::uint16_t>(kFirstJobPort + *job % kJobPorts);
    for (const char* name : {"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"}) {
      const std::optional<std::string> list = environment(name);
      if (!place.address.empty() || !list) continue;
      auto host = first_host(*list);
      if (!host) return fail(ErrorCode::kInvalidArgument, "[processes] {}: {}", name, host.error().message);
      place.address = *host;
    }
  }
  // An MPI's launcher does not say where rank 0 is, but whether all are here.
  KRAIT_ASSIGN(const std::optional<std::int64_t> local,
               number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE", 1, kMostRanks));
  KRAIT_ASSIGN(const std::optional<std::int64_t> local_pmi, number(environment, "MPI_LOCALNRANKS", 1, kMostRanks));
  if (place.address.empty() && local.value_or(local_pmi.value_or(0)) == of.ranks) place.address = "127.0.0.1";
  if (place.address.empty()) {
    return fail(
        ErrorCode::kInvalidArgument,
        "[processes] {} says rank {} of {}, but not where rank 0 is: MASTER_ADDR has to (mpirun -x MASTER_ADDR)",
        of.rank_name, of.rank, of.ranks);
  }
  return {};
}

}  // namespace

Environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  };
}

Result<std::optional<ProcessPlace>> process_place(const Environment& environment) {
  std::vector<Claim> claims;
  constexpr std::array<std::array<const char*, 3>, 3> kFamilies = {{
      {"torchrun", "RANK", "WORLD_SIZE"},
      {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
      {"PMI", "PMI_RANK", "PMI_SIZE"},
  }};
  for (const auto& [launcher, rank_name, ranks_name] : kFamilies) {
    KRAIT_ASSIGN(std::optional<Claim> found, claim(environment, launcher, rank_name, ranks_name));
    if (found) claims.push_back(*std::move(found));
  }
  if (claims.empty()) {
    KRAIT_ASSIGN(std::optional<Claim> found, slurm_claim(environment));
    if (!found) return std::nullopt;
    claims.push_back(*std::move(found));
  }
  KRAIT_TRY(check_agree(environment, claims));
  const Claim& of = claims.front();
  ProcessPlace place{.launcher = of.launcher, .rank = of.rank, .ranks = of.ranks};
  if (of.ranks > 1) KRAIT_TRY(find_store(environment, of, place));
  return place;
}

Result<std::string> first_host(std::string_view list) {
  std::string host;
  std::size_t i = 0;
  while (i < list.size() && list[i] != ',') {
    if (list[i] != '[') {
      host += list[i++];
      continue;
    }
    // The first of the numbers in brackets, with its zeros.
    const std::size_t end = list.find(']', i);
    const std::size_t stop = list.find_first_of(",-]", i);
    if (end == std::string_view::npos || stop == i + 1) {
      return fail(ErrorCode::kInvalidArgument, "'{}' is no list of hosts, such as tower[03-05,07],fast1", list);
    }
    host += list.substr(i + 1, stop - i - 1);
    i = end + 1;
  }
  if (host.empty() || host.find_first_of("] ") != std::string::npos) {
    return fail(ErrorCode::kInvalidArgument, "'{}' is no list of hosts, such as tower[03-05,07],fast1", list);
  }
  return host;
}

}  // namespace krait::train
