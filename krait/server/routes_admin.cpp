// What those who run the server change while it runs.
#include <nlohmann/json.hpp>

#include "krait/server/json_reader.h"
#include "krait/server/service.h"

namespace krait::server {
namespace {

std::string core_groups_body(const GenerationStatistics& now) {
  nlohmann::ordered_json lanes = nlohmann::ordered_json::array();
  const auto add = [&](LaneRole role) {
    lanes.push_back({{"lane", to_string(role)}, {"cores", now.lanes[index_of(role)].cores}});
  };
  if (now.apart) {
    add(LaneRole::prompts);
    add(LaneRole::decodes);
  } else {
    add(LaneRole::mixed);
  }
  const nlohmann::ordered_json body = {{"core_groups", to_string(now.core_groups)},
                                       {"mode", now.apart ? "apart" : "together"},
                                       {"lanes", std::move(lanes)}};
  return body.dump();
}

}  // namespace

void Service::show_core_groups(const ExchangePtr& exchange, const std::string&) {
  exchange->respond({.body = core_groups_body(generator_.statistics())});
}

void Service::set_core_groups(const ExchangePtr& exchange, const std::string&) {
  const std::string& key = exchange->request().key;
  if (!keys_.limits_of(key).admin) {
    ApiError error =
        error_of_status(403, fmt::format("the key of {} may not change the server: it has no admin=1", key));
    error.code = "not_allowed";
    return fail(exchange, error);
  }
  auto body = JsonReader::parse(exchange->request().body);
  if (!body) return fail(exchange, body.error());
  const auto text = body->text("core_groups");
  if (!text && !body->error()) body->complain("core_groups", "is missing");
  if (body->error()) return fail(exchange, *body->error());
  const auto groups = parse_core_groups(*text, model_.engine->cores());
  const Result<void> set = groups ? generator_.set_core_groups(*groups) : std::unexpected(groups.error());
  if (!set) {
    ApiError error = error_of(set.error());
    error.param = "core_groups";
    return fail(exchange, error);
  }
  exchange->respond({.body = core_groups_body(generator_.statistics())});
}

}  // namespace krait::server
