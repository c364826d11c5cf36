/* krait's C interface: state-space language models on CPUs, and the states of their sequences as things to hold.
 *
 *   krait_model* model; krait_session* session;
 *   krait_model_open("path/to/model", NULL, &model);
 *   krait_session_create(model, &session);
 *   krait_session_feed_text(session, "Once upon a time", 16);
 *
 * Errors. A function that can fail returns a krait_status: KRAIT_OK (0) or what went wrong. krait_last_error() then has
 * a sentence that names the thing and the values. No exception crosses this interface and nothing is printed. A null
 * pointer where something is needed is KRAIT_INVALID_ARGUMENT. What a function would give is set to null or zero when
 * it fails.
 *
 * Ownership. Handles (krait_model, krait_session, krait_sampler, krait_decoder) are freed with their own _free
 * function; null is allowed there. A handle keeps alive what it needs: a model that was freed goes on to exist for its
 * sessions, so the order does not matter. Memory that a function gives as `char**`, `int32_t**` or `void**` is the
 * caller's, to be freed with krait_free(). What it gives as `const ...**` stays the library's; it is said there how
 * long it lives.
 *
 * Threads. Different models may be used from different threads at once. Handles of one model may too, each by one
 * thread at a time: the model has a lock, taken where its threads calculate, and those who wait get it in the order
 * they came. A long text is read in pieces between which others get their turn. More threads make one model no faster;
 * the model has threads of its own. Freeing, forking and sampling do not wait for the lock. The last error is kept for
 * each thread; there is no other global state.
 *
 * Units. Sizes are bytes, unless called a count. Text is UTF-8, with its length in bytes, and need not end in a zero;
 * text that is given back ends in a zero that is not counted. Paths are bytes that end in a zero, as the system has
 * them. A position is a number of tokens.
 *
 * Growth. Structures begin with their size, which the initialisers below set; the library takes shorter ones of older
 * programs, and refuses longer ones of newer programs that ask for what it does not have.
 */
#ifndef KRAIT_H
#define KRAIT_H

#include <stddef.h>
#include <stdint.h>

#define KRAIT_VERSION_MAJOR 0
#define KRAIT_VERSION_MINOR 1
#define KRAIT_VERSION_PATCH 0
#define KRAIT_VERSION "0.1.0"

#define KRAIT_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

typedef struct krait_model krait_model;     /* weights, a tokenizer, threads, and memory for states */
typedef struct krait_session krait_session; /* one sequence: the state after exactly n tokens, and what follows */
typedef struct krait_sampler krait_sampler; /* chooses the next token; has a random generator and counts */
typedef struct krait_decoder krait_decoder; /* makes text of tokens as they come */

/* --- Errors ------------------------------------------------------------------------------------------------------ */

typedef enum krait_status {
  KRAIT_OK = 0,
  KRAIT_NOT_FOUND = 1,          /* a file, or something in it, that should be there is not */
  KRAIT_INPUT_OUTPUT = 2,       /* the system refused to read or write */
  KRAIT_CORRUPT = 3,            /* bytes that contradict themselves or their format */
  KRAIT_UNSUPPORTED = 4,        /* well formed, but not something this library can use */
  KRAIT_INVALID_ARGUMENT = 5,   /* the caller gave something that cannot work; a state of another model too */
  KRAIT_RESOURCE_EXHAUSTED = 6, /* no memory, or no room for another state; freeing sessions helps with the latter */
  KRAIT_CANCELLED = 7,          /* not given by any function yet */
  KRAIT_INTERNAL = 8            /* a mistake of the library's: free the session it happened to */
} krait_status;

/* Of this thread's last call that failed; calls that succeed leave both alone. "" and KRAIT_OK before the first. The
 * sentence may hold names from files as they are. It lives until the thread's next failure. Never null. */
KRAIT_API const char* krait_last_error(void);
KRAIT_API krait_status krait_last_status(void);
/* A few words, such as "not found"; "unknown" for other numbers. Lives forever. */
KRAIT_API const char* krait_status_name(krait_status status);

/* Of the library that was loaded; KRAIT_VERSION is that of this header. Lives forever. */
KRAIT_API const char* krait_version(void);

/* Frees memory that the library gave to the caller. Null is allowed. */
KRAIT_API void krait_free(void* memory);

/* --- Models ------------------------------------------------------------------------------------------------------ */

typedef struct krait_model_options {
  size_t size;
  const char* weights;     /* keep matrices as "f32", "bf16", "f16", "int8", "int8-block32", "int4", "int4-zero",
                              "int4-group128" or "int4-group128-zero"; null: as in the file */
  const char* state_dtype; /* keep states as "f32", "bf16" or "int8"; null: f32 */
  const char* kv_dtype;    /* the same for keys and values of attention */
  const char* tokenizer;   /* path of a tokenizer; null: the model's own */
  uint64_t state_memory;   /* bytes that states of sessions may take; 0: half of what is left. Used only as needed */
  int32_t threads;         /* 0: one for each core this process may use */
  int32_t in_place;        /* 1: use 16- and 32-bit weights where the file has them, slower but without a copy */
} krait_model_options;
#define KRAIT_MODEL_OPTIONS {sizeof(krait_model_options), NULL, NULL, NULL, NULL, 0, 0, 0}

/* `path`: a folder, a .gguf or another file of weights. `options` may be null. A model without a tokenizer opens;
 * functions that need one then say what is missing. */
KRAIT_API krait_status krait_model_open(const char* path, const krait_model_options* options, krait_model** model);
KRAIT_API void krait_model_free(krait_model* model);

/* The path of the story model that comes with krait: share/krait/models/tales beside the folder of this library, or
 * models/tales of the source tree it was built in. KRAIT_NOT_FOUND where neither is. Free with krait_free(). */
KRAIT_API krait_status krait_bundled_model(char** path);

typedef struct krait_model_facts {
  size_t size;
  const char* architecture; /* such as "mamba2"; lives as long as the model or a session of it, and so does … */
  const char* weights;      /* … the format of the matrices in memory, such as "bf16" */
  int64_t layers;
  int64_t width;
  int64_t vocabulary;     /* rows of the embedding, and numbers of logits; may be more than the tokenizer has */
  int64_t tokenizer_size; /* 0: there is no tokenizer */
  int64_t parameters;
  uint64_t weight_bytes;
  uint64_t state_bytes;     /* of the state of one sequence, without what follows */
  uint64_t growth_bytes;    /* what 64 more tokens add to a state; 0 for models without attention over all tokens */
  uint64_t states_that_fit; /* into state_memory; of states that grow, while they are short */
  uint64_t states_in_use;   /* memory of a fork counts once it goes on by itself */
} krait_model_facts;
#define KRAIT_MODEL_FACTS {sizeof(krait_model_facts), NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

/* `facts->size` says how many bytes may be written. */
KRAIT_API krait_status krait_model_describe(const krait_model* model, krait_model_facts* facts);

/* The tokens at which a text ends, from the model's configuration and its tokenizer's; there may be none. Lives as long
 * as the model or a session of it. */
KRAIT_API krait_status krait_model_end_ids(const krait_model* model, const int32_t** ids, size_t* count);

/* --- Text -------------------------------------------------------------------------------------------------------- */

/* Special tokens that stand in the text are recognised. `at_start`: 1 puts the token that starts a text in front where
 * the tokenizer asks for one or the text is empty, as krait_session_feed_text() does. Never fails for the text's own
 * sake, whatever its bytes. Free `ids` with krait_free(). */
KRAIT_API krait_status krait_tokenize(const krait_model* model, const char* text, size_t bytes, int32_t at_start,
                                      int32_t** ids, size_t* count);
/* The exact bytes of a whole text, without special tokens; part of a text may begin or end within a character. Ids
 * outside the vocabulary are nothing. Free `text` with krait_free(). */
KRAIT_API krait_status krait_detokenize(const krait_model* model, const int32_t* ids, size_t count, char** text,
                                        size_t* bytes);

/* A stream of tokens as pieces of valid UTF-8: a token may hold half a character, which is held back until the rest
 * has come. Special tokens are nothing. */
KRAIT_API krait_status krait_decoder_create(const krait_model* model, krait_decoder** decoder);
KRAIT_API void krait_decoder_free(krait_decoder* decoder);
/* The piece may be empty. It lives until the next call with this decoder. */
KRAIT_API krait_status krait_decoder_feed(krait_decoder* decoder, int32_t id, const char** text, size_t* bytes);
/* What is held back, with U+FFFD for what is no character. The decoder can then take another text. */
KRAIT_API krait_status krait_decoder_finish(krait_decoder* decoder, const char** text, size_t* bytes);

/* --- Sessions ---------------------------------------------------------------------------------------------------- */

/* Before the first token. KRAIT_RESOURCE_EXHAUSTED when no state fits any more. */
KRAIT_API krait_status krait_session_create(const krait_model* model, krait_session** session);
KRAIT_API void krait_session_free(krait_session* session);
/* A second sequence with the same past. Costs nothing until one of the two goes on, and then a copy of the state. */
KRAIT_API krait_status krait_session_fork(const krait_session* session, krait_session** fork);

/* Reads tokens. An id outside the vocabulary is KRAIT_INVALID_ARGUMENT before anything is read. When state memory runs
 * out in the midst of many tokens, those before may have been read: krait_session_position() tells. To be able to stop
 * reading a long text, feed it in parts: cutting does not change the state but for rounding. */
KRAIT_API krait_status krait_session_feed(krait_session* session, const int32_t* ids, size_t count);
/* The same as krait_tokenize() with `at_start` where the position is 0, and feeding that. */
KRAIT_API krait_status krait_session_feed_text(krait_session* session, const char* text, size_t bytes);

/* Tokens read so far; -1 for null. */
KRAIT_API int64_t krait_session_position(const krait_session* session);
/* What the state takes, shared memory included; 0 for null. */
KRAIT_API uint64_t krait_session_state_bytes(const krait_session* session);
/* One number for each token of the vocabulary, for the token that comes next. Lives until the session is fed or freed.
 * KRAIT_INVALID_ARGUMENT before the first token. */
KRAIT_API krait_status krait_session_logits(const krait_session* session, const float** logits, size_t* count);

/* --- Choosing tokens --------------------------------------------------------------------------------------------- */

typedef struct krait_sampler_options {
  size_t size;
  uint64_t seed;            /* the same seed gives the same choices for the same logits, on any machine */
  int64_t top_k;            /* keep so many of the likeliest tokens; 0: all */
  float temperature;        /* 0: always the likeliest token */
  float top_p;              /* keep the likeliest tokens up to this share; 1: all */
  float min_p;              /* keep tokens at least this share of the likeliest one; 0: all */
  float repetition_penalty; /* above 1 discourages tokens that were observed or chosen before */
  float presence_penalty;   /* subtracted from the logits of tokens chosen before */
  float frequency_penalty;  /* subtracted for every time a token was chosen */
} krait_sampler_options;
#define KRAIT_SAMPLER_OPTIONS {sizeof(krait_sampler_options), 0, 40, 0.8f, 0.95f, 0.0f, 1.0f, 0.0f, 0.0f}

/* For sessions of this model. `options` may be null. */
KRAIT_API krait_status krait_sampler_create(const krait_model* model, const krait_sampler_options* options,
                                            krait_sampler** sampler);
KRAIT_API void krait_sampler_free(krait_sampler* sampler);
/* Another one that would choose the same from here on. */
KRAIT_API krait_status krait_sampler_fork(const krait_sampler* sampler, krait_sampler** fork);
/* Tokens of a prompt, for the repetition penalty; not needed otherwise. */
KRAIT_API krait_status krait_sampler_observe(krait_sampler* sampler, const int32_t* ids, size_t count);
/* The token that comes next. It is not fed: whoever wants to go on feeds it, whoever wants to stop does not. */
KRAIT_API krait_status krait_session_sample(const krait_session* session, krait_sampler* sampler, int32_t* id);
/* The same from logits that the caller has changed: -INFINITY forbids a token. Those of ids that the tokenizer does not
 * have do not count. At least one token must be left. */
KRAIT_API krait_status krait_sampler_choose(krait_sampler* sampler, const float* logits, size_t count, int32_t* id);

/* --- States that are kept ---------------------------------------------------------------------------------------- */

typedef struct krait_save_options {
  size_t size;
  const krait_sampler* sampler; /* kept with the state, to go on choosing as it would have; null: none */
  const char* note;             /* kept with the state, for people; UTF-8; null: none */
  int32_t compression;          /* 0: none; 1 to 19: levels of zstd */
  int32_t reserved;             /* 0 */
} krait_save_options;
#define KRAIT_SAVE_OPTIONS {sizeof(krait_save_options), NULL, NULL, 0, 0}

/* Writes a state object with checksums (docs/formats.md). A file appears under its name when it is complete and on the
 * disk, and replaces one that was there. `options` may be null. The first call that saves or loads reads the model's
 * whole checkpoint, once, to know the model again. Free `bytes` with krait_free(). */
KRAIT_API krait_status krait_session_save(const krait_session* session, const char* path,
                                          const krait_save_options* options);
KRAIT_API krait_status krait_session_save_bytes(const krait_session* session, const krait_save_options* options,
                                                void** bytes, size_t* count);
/* A session that goes on from there, as the one that was saved would have. A state of another model, tokenizer, format
 * of weights or dtype of states is KRAIT_INVALID_ARGUMENT, with what differs; a damaged one is KRAIT_CORRUPT. `sampler`
 * may be null; it gives the sampler that was saved, and null where there was none. `bytes` are not needed afterwards.
 */
KRAIT_API krait_status krait_session_load(const krait_model* model, const char* path, krait_session** session,
                                          krait_sampler** sampler);
KRAIT_API krait_status krait_session_load_bytes(const krait_model* model, const void* bytes, size_t count,
                                                krait_session** session, krait_sampler** sampler);

/* What a state object says of itself; text ends in a zero, cut where it is longer. */
typedef struct krait_state_facts {
  size_t size;
  int64_t position;
  uint64_t bytes;     /* of the whole object */
  int32_t has_logits; /* 1: the next token can be chosen before anything is fed */
  int32_t has_sampler;
  char architecture[64];
  char weights[64];
  char model[40]; /* of weights and configuration, a hash in hexadecimal digits */
  char tokenizer[40];
  char note[256];
} krait_state_facts;
#define KRAIT_STATE_FACTS {sizeof(krait_state_facts), 0, 0, 0, 0, "", "", "", "", ""}

/* Needs no model. The object is verified: KRAIT_CORRUPT when it is damaged. */
KRAIT_API krait_status krait_state_describe(const char* path, krait_state_facts* facts);
KRAIT_API krait_status krait_state_describe_bytes(const void* bytes, size_t count, krait_state_facts* facts);

#ifdef __cplusplus
}
#endif

#endif
