// The routes of OpenAI's responses. One that goes on from another is given its tokens again, and what is new behind
// them: the store of states has the state behind these, so that only the new is read.
#include <fmt/format.h>

#include "krait/server/openai_responses.h"
#include "krait/server/service.h"

namespace krait::server {

void Service::make_response(const ExchangePtr& exchange, const std::string&) {
  auto request = parse_response_request(exchange->request().body, options_.limits);
  if (!request) return fail(exchange, request.error());
  if (const auto error = wrong_model(request->model)) return fail(exchange, *error);
  const std::string& owner = exchange->request().key;
  std::shared_ptr<const KeptAnswer> previous;
  if (!request->previous.empty()) {
    const auto found = kept_answers_.find(request->previous, owner);
    if (!found || !(*found)->is_response) {
      return fail(exchange,
                  {.message = fmt::format("previous_response_id: there is no response \"{}\"", request->previous),
                   .param = "previous_response_id",
                   .code = "previous_response_not_found"});
    }
    previous = *found;
  }
  Conversation whole = previous ? joined(previous->conversation, *request) : *request;
  // What the model was told at the beginning has to be the same, else all of it is read anew.
  const bool goes_on = previous && previous->goes_on && previous->instructions == request->instructions &&
                       previous->conversation.tools_json == request->tools_json &&
                       previous->conversation.variables_json == request->variables_json;
  auto input = goes_on ? chat_input(*request, true, &previous->tokens)
                       : chat_input(with_instructions(whole, request->instructions), true, nullptr);
  if (!input) return fail(exchange, input.error());
  if (goes_on) {
    std::vector<formats::TokenId> tokens = previous->tokens;
    std::ranges::copy(tokens_of(input->prompt, false), std::back_inserter(tokens));
    input->prompt = std::move(tokens);
  }
  const std::string id = fmt::format("resp_{}{}", id_stem_, ++answers_);
  KeepAnswer keep;
  if (request->store) {
    keep = [this, id, owner, whole = std::move(whole), instructions = request->instructions](
               const std::string& body, const SequenceResult& reply, std::vector<formats::TokenId> tokens) {
      KeptAnswer kept;
      kept.id = id;
      kept.owner = owner;
      kept.body = body;
      kept.is_response = true;
      kept.instructions = instructions;
      kept.conversation = with_reply(whole, reply);
      // A string that ended the reply stands in the tokens and not in the text.
      kept.goes_on = reply.reason != runtime::FinishReason::kStopString;
      kept.tokens = std::move(tokens);
      kept_answers_.put(std::move(kept));
    };
  }
  const Input inputs[] = {*std::move(input)};
  generate(exchange, inputs, request->parameters, false,
           response_format({.id = id,
                            .created = unix_time(),
                            .model = model_.card.name,
                            .previous = request->previous,
                            .instructions = request->instructions,
                            .echo = request->echo}),
           openai_error, std::move(keep));
}

void Service::show_response(const ExchangePtr& exchange, const std::string& id) {
  const auto kept = kept_answers_.find(id, exchange->request().key);
  if (!kept) return fail(exchange, kept.error());
  exchange->respond({.body = (*kept)->body});
}

void Service::drop_response(const ExchangePtr& exchange, const std::string& id) {
  const auto kept = kept_answers_.find(id, exchange->request().key);
  if (!kept) return fail(exchange, kept.error());
  kept_answers_.drop(id, exchange->request().key);
  exchange->respond({.body = response_deleted_body(id)});
}

}  // namespace krait::server
