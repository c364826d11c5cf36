// What a checkpoint and a tokenizer are, whatever their files are called: hashes of their content. States are kept with
// them, so that no state goes on in a model that did not make it.
#pragma once

#include "krait/core/error.h"
#include "krait/core/hash.h"
#include "krait/core/thread_pool.h"
#include "krait/formats/tokenizer.h"
#include "krait/formats/weight_source.h"

namespace krait::formats {

// Of the configuration and of all tensors: names, dtypes, shapes and bytes. Reads the whole checkpoint, as fast as the
// memory or the disk gives it.
Result<Hash128> weights_identity(const WeightSource& source, ThreadPool& pool);

// Of the vocabulary, and of how a text of many kinds of characters is cut into tokens. The same tokenizer read from
// another format has the same identity.
Hash128 tokenizer_identity(const Tokenizer& tokenizer);

}  // namespace krait::formats
