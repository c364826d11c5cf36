#include "krait/api/error_text.h"

#include <cstdlib>
#include <new>
#include <string>

#include "krait/runtime/slab.h"

namespace krait::api {
namespace {

struct LastError {
  krait_status status = KRAIT_OK;
  std::string message;
  bool message_lost = false;  // there was no memory to keep it
};
thread_local LastError last_error;

}  // namespace

krait_status status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kNotFound: return KRAIT_NOT_FOUND;
    case ErrorCode::kInputOutput: return KRAIT_INPUT_OUTPUT;
    case ErrorCode::kCorrupt: return KRAIT_CORRUPT;
    case ErrorCode::kUnsupported: return KRAIT_UNSUPPORTED;
    case ErrorCode::kInvalidArgument: return KRAIT_INVALID_ARGUMENT;
    case ErrorCode::kResourceExhausted: return KRAIT_RESOURCE_EXHAUSTED;
    case ErrorCode::kCancelled: return KRAIT_CANCELLED;
    case ErrorCode::kInternal: return KRAIT_INTERNAL;
  }
  return KRAIT_INTERNAL;
}

krait_status remember(krait_status status, std::string_view message) noexcept {
  last_error.status = status;
  last_error.message_lost = false;
  try {
    last_error.message = message;
  } catch (...) {
    last_error.message_lost = true;
  }
  return status;
}

krait_status remember_exception() noexcept {
  try {
    const auto with_hint = [](krait_status status, const UserError& error) {
      return remember(status, fmt::format("[api] {}: {}", error.what(), error.hint()));
    };
    try {
      throw;
    } catch (const runtime::ExhaustedError& error) {
      return with_hint(KRAIT_RESOURCE_EXHAUSTED, error);
    } catch (const UserError& error) {
      return with_hint(KRAIT_INVALID_ARGUMENT, error);
    } catch (const std::bad_alloc&) {
      return remember(KRAIT_RESOURCE_EXHAUSTED, "[api] out of memory");
    } catch (const std::exception& error) {
      return remember(KRAIT_INTERNAL, fmt::format("[api] {}", error.what()));
    } catch (...) {
      return remember(KRAIT_INTERNAL, "[api] an exception that is no error");
    }
  } catch (...) {  // no memory for the sentence
    return remember(KRAIT_RESOURCE_EXHAUSTED, "");
  }
}

Given<char> give(std::string_view bytes) {
  Given<char> memory(static_cast<char*>(std::malloc(bytes.size() + 1)));
  if (!memory) throw std::bad_alloc();
  if (!bytes.empty()) std::memcpy(memory.get(), bytes.data(), bytes.size());
  memory.get()[bytes.size()] = '\0';
  return memory;
}

}  // namespace krait::api

using namespace krait::api;

const char* krait_last_error(void) {
  return last_error.message_lost ? "[api] out of memory, also for saying more" : last_error.message.c_str();
}

krait_status krait_last_status(void) { return last_error.status; }

const char* krait_status_name(krait_status status) {
  switch (status) {
    case KRAIT_OK: return "ok";
    case KRAIT_NOT_FOUND: return "not found";
    case KRAIT_INPUT_OUTPUT: return "input/output";
    case KRAIT_CORRUPT: return "corrupt";
    case KRAIT_UNSUPPORTED: return "unsupported";
    case KRAIT_INVALID_ARGUMENT: return "invalid argument";
    case KRAIT_RESOURCE_EXHAUSTED: return "resource exhausted";
    case KRAIT_CANCELLED: return "cancelled";
    case KRAIT_INTERNAL: return "internal";
  }
  return "unknown";
}

const char* krait_version(void) { return KRAIT_PROJECT_VERSION; }

void krait_free(void* memory) { std::free(memory); }
