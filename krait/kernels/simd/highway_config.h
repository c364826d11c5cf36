// Choices about Google Highway that every kernel must share. Include it before any hwy header.
//
// The floor of the build is x86-64-v2, which has SSE4 but neither AES nor PCLMUL; Highway would fall back to SSSE3
// for their lack, and no kernel here uses them. Targets without a vector length known at compile time are left out:
// the kernels keep arrays of vectors in registers.
#pragma once

#ifndef HWY_DISABLE_PCLMUL_AES
#define HWY_DISABLE_PCLMUL_AES
#endif
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#endif
