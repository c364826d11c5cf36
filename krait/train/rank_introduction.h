// How the ranks come to know one another: each says in the store who it is and where, and waits for the others' words.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include "krait/train/process_group.h"

namespace c10d {
class Store;
}

namespace krait::train {

struct Introduction {
  Peer peer;
  std::string first_seen_as;  // the address behind which this rank found rank 0's store
  std::vector<std::pair<std::string, std::string>> alike;
};

// All ranks' introductions, by rank. An error names those who have not come.
Result<std::vector<Introduction>> meet(c10d::Store& store, const ProcessPlace& place, const Introduction& own,
                                       std::chrono::milliseconds timeout);
// Names what is not alike, and at whom.
Result<void> check_introductions(const std::vector<Introduction>& all);
// The address that Gloo listens on. Where a machine knows its own name as 127.0.1.1, the others know better.
Result<std::string> address_to_serve(const std::vector<Introduction>& all, std::int64_t rank);

// c10's errors have stack traces behind their first line.
std::string first_line(const std::exception& error);

}  // namespace krait::train
