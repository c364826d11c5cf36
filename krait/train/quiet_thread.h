// A thread that no signal finds: signals are the business of the program's own threads. And what would be SIGXFSZ
// there, writing past the limit on the size of files, is the error EFBIG here.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <thread>
#include <utility>

namespace krait::train {

template <class Body>
std::thread quiet_thread(Body&& body) {
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::forward<Body>(body));
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace krait::train
