#include "krait/runtime/lane.h"

#include <utility>

#include "krait/core/check.h"
#include "krait/core/cores.h"
#include "krait/runtime/engine.h"
#include "krait/runtime/session.h"

namespace krait::runtime {
namespace {

kernels::RowsOut rows_in(std::vector<float>& memory, std::int64_t rows, std::int64_t columns) {
  if (memory.size() < static_cast<std::size_t>(rows * columns)) memory.resize(static_cast<std::size_t>(rows * columns));
  return {memory.data(), rows, columns};
}

}  // namespace

Lane::Lane(Engine& engine, int threads, std::vector<int> cores)
    : engine_(engine), cores_(std::move(cores)), pool_(threads, cores_) {}

void Lane::enter() const {
  if (!cores_.empty()) keep_to(cores_);
}

StepRows Lane::step(std::span<const StepRequest> requests) {
  const std::int64_t width = engine_.model().info().width;
  std::vector<models::Segment> segments;
  segments.reserve(requests.size());
  // Requests for logits go first, so that their rows stand together before the head.
  std::int64_t logit_rows = 0;
  for (const StepOutput output : {StepOutput::kLogits, StepOutput::kHidden}) {
    for (const StepRequest& request : requests) {
      if (request.output != output) continue;
      engine_.check_tokens(request.tokens);
      Session& session = *request.session;
      const auto count = static_cast<std::int64_t>(request.tokens.size());
      std::byte* const bundle = session.slot_.make_room(session.position_, count, models::StateLayout::kPageTokens);
      segments.push_back({.state = bundle,
                          .tokens = request.tokens,
                          .position = session.position_,
                          .pages = session.slot_.pages().data(),
                          .wanted_from = request.wanted_from});
      if (output == StepOutput::kLogits) logit_rows += count - request.wanted_from;
    }
  }
  models::Step step(pool_, workspace_, segments, profile_);
  const auto rows = static_cast<std::int64_t>(step.wanted_rows().size());
  const kernels::RowsOut hidden = rows_in(hidden_, rows, width);
  engine_.model().forward(step, hidden);
  const kernels::RowsOut logits = rows_in(logits_, logit_rows, engine_.model().info().vocabulary);
  engine_.model().logits(step, hidden.slice_rows(0, logit_rows), logits);
  for (const StepRequest& request : requests) {
    request.session->position_ += static_cast<std::int64_t>(request.tokens.size());
    request.session->prefix_ = extend_prefix(request.session->prefix_, request.tokens);
  }
  const kernels::RowsOut others = hidden.slice_rows(logit_rows, rows - logit_rows);
  return {.logits = {logits.data, logits.rows, logits.columns}, .hidden = {others.data, others.rows, others.columns}};
}

OutputRows Lane::logits_of(const OutputRows& hidden) {
  KRAIT_CHECK(hidden.rows <= engine_.logit_rows_at_once(), "logits of {} rows at once, at most {}", hidden.rows,
              engine_.logit_rows_at_once());
  models::Step step(pool_, workspace_, {}, profile_);
  const kernels::RowsOut logits = rows_in(headed_, hidden.rows, engine_.model().info().vocabulary);
  engine_.model().logits(step, {hidden.data, hidden.rows, hidden.columns}, logits);
  return {logits.data, logits.rows, logits.columns};
}

std::vector<std::vector<LikelyToken>> Lane::likeliest_of(const OutputRows& hidden, std::span<const std::int64_t> counts,
                                                         std::int64_t drawable) {
  models::Step step(pool_, workspace_, {}, profile_);
  const std::int64_t stretch = models::head_stretch(hidden.rows, engine_.model().info().vocabulary);
  const kernels::RowsOut scratch = rows_in(headed_, hidden.rows, stretch);
  return models::likeliest_of(engine_.model(), step, {hidden.data, hidden.rows, hidden.columns}, counts, drawable,
                              scratch.data);
}

}  // namespace krait::runtime
