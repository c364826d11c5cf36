/* Reads the beginning of a tale, tells two continuations of it, keeps the state in a file and goes on from there.
 *
 *   cc -std=c11 tell_twice.c $(pkg-config --cflags --libs krait) && ./a.out state.krait
 */
#include <krait.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(krait_status status) {
  if (status == KRAIT_OK) return;
  fprintf(stderr, "%s: %s\n", krait_status_name(status), krait_last_error());
  exit(1);
}

static int is_among(const int32_t* ids, size_t count, int32_t id) {
  while (count > 0 && ids[count - 1] != id) --count;
  return count > 0;
}

/* Up to `most` tokens; the session has read all of them afterwards. To stop earlier, leave the loop. */
static void tell(const char* title, const krait_model* model, krait_session* session, uint64_t seed, int most) {
  krait_sampler_options options = KRAIT_SAMPLER_OPTIONS;
  options.seed = seed;
  krait_sampler* sampler = NULL;
  krait_decoder* decoder = NULL;
  check(krait_sampler_create(model, &options, &sampler));
  check(krait_decoder_create(model, &decoder));
  const int32_t* ends = NULL;
  size_t end_count = 0, bytes = 0;
  check(krait_model_end_ids(model, &ends, &end_count));
  const char* piece = NULL;
  printf("%s:", title);
  for (int i = 0; i < most; ++i) {
    int32_t id = 0;
    check(krait_session_sample(session, sampler, &id));
    if (is_among(ends, end_count, id)) break;
    check(krait_decoder_feed(decoder, id, &piece, &bytes));
    fwrite(piece, 1, bytes, stdout);
    check(krait_session_feed(session, &id, 1));
  }
  check(krait_decoder_finish(decoder, &piece, &bytes));
  printf("%s\n----\n", piece);
  krait_decoder_free(decoder);
  krait_sampler_free(sampler);
}

int main(int argc, char** argv) {
  const char* file = argc > 1 ? argv[1] : "state.krait";
  const char* text = "Once upon a time there was a fox";
  char* path = NULL;
  krait_model* model = NULL;
  krait_session *session = NULL, *fork = NULL, *loaded = NULL;
  check(krait_bundled_model(&path));
  check(krait_model_open(path, NULL, &model));
  check(krait_session_create(model, &session));
  check(krait_session_feed_text(session, text, strlen(text)));

  check(krait_session_save(session, file, NULL));
  check(krait_session_fork(session, &fork));
  tell("first", model, session, 7, 40);
  tell("second", model, fork, 8, 40);

  check(krait_session_load(model, file, &loaded, NULL));
  printf("position: %lld\n----\n", (long long)krait_session_position(loaded));
  tell("first again", model, loaded, 7, 40);

  krait_session_free(loaded);
  krait_session_free(fork);
  krait_session_free(session);
  krait_model_free(model);
  krait_free(path);
  return 0;
}
