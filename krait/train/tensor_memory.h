// Memory of large tensors that is kept for the next ones. A training step asks for the same sizes as the step before;
// without this every one of them comes fresh from the system, which hands it out page by page and clears each page,
// hundreds of thousands of them for a step of a model of 130M. Here they go through a SizeClassPool, in huge pages
// where the system has them, which never holds more than a quarter beyond the most that tensors took at once. Small
// tensors stay with libtorch's own allocator.
#pragma once

#include "krait/train/size_class_pool.h"

namespace krait::train {

// From now on, for the whole process; a further call changes nothing. For programs to call, since whoever else has
// tensors in the process may want another allocator. Tensors from before are freed as they were allocated.
void keep_tensor_memory();

// What large tensors take; zeros where nothing is kept.
SizeClassPool::Use tensor_memory();

// Whether it is kept from now on, for runs that may not hold more than they use. Nothing where it never was.
void set_tensor_memory_kept(bool kept);

// Gives what no tensor uses back to the system.
void release_tensor_memory();

}  // namespace krait::train
