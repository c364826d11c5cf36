// Answers that clients may come back to by their id: "store" of chats and responses. What is kept is text and tokens,
// no state: the state behind them is found in the store of states while that has it (runtime/state_store.h), and
// computed anew else.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "krait/formats/tokenizer.h"
#include "krait/server/api_error.h"
#include "krait/server/conversation.h"

namespace krait::server {

struct KeptAnswer {
  std::string id;
  std::string owner;
  std::string body;                      // as it was sent
  bool is_response = false;              // of /v1/responses
  std::string instructions;              // of a response
  Conversation conversation;             // of a response, with the reply, without the instructions
  bool goes_on = false;                  // another may follow the tokens as they are
  std::vector<formats::TokenId> tokens;  // prompt and reply; empty: not known

  std::uint64_t bytes() const;
};

// Thread-safe. Past its size it forgets what was asked for longest ago.
class AnswerShelf {
 public:
  explicit AnswerShelf(std::uint64_t bytes = std::uint64_t{64} << 20) : capacity_(bytes) {}

  void put(KeptAnswer answer);
  // Of the owner's; others' ids are as unknown as those that never were.
  ApiResult<std::shared_ptr<const KeptAnswer>> find(const std::string& id, const std::string& owner);
  bool drop(const std::string& id, const std::string& owner);

 private:
  using Answers = std::list<std::shared_ptr<const KeptAnswer>>;
  void erase(std::map<std::string, Answers::iterator>::iterator place);

  const std::uint64_t capacity_;
  std::mutex mutex_;
  Answers answers_;  // the last used first
  std::map<std::string, Answers::iterator> places_;
  std::uint64_t bytes_ = 0;
};

}  // namespace krait::server
