# Cross-compiling for 64-bit Arm with Debian's g++-aarch64-linux-gnu; what was built runs under qemu-user.
# The Arm libraries stand in a folder of their own, never among the machine's: `./dev aarch64` makes it and passes it
# in KRAIT_AARCH64_SYSROOT (or as a cache variable of that name).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

set(KRAIT_AARCH64_SYSROOT "$ENV{KRAIT_AARCH64_SYSROOT}" CACHE PATH "Where the arm64 packages were unpacked")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES KRAIT_AARCH64_SYSROOT)
if(NOT IS_DIRECTORY "${KRAIT_AARCH64_SYSROOT}/usr/lib/aarch64-linux-gnu")
  message(FATAL_ERROR
    "KRAIT_AARCH64_SYSROOT (${KRAIT_AARCH64_SYSROOT}) holds no arm64 libraries: ./dev aarch64 puts them there")
endif()
set(CMAKE_SYSROOT "${KRAIT_AARCH64_SYSROOT}")
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# pkg-config has no notion of a root for finding: both where it looks and what it prefixes are set.
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${KRAIT_AARCH64_SYSROOT}")
set(ENV{PKG_CONFIG_LIBDIR}
  "${KRAIT_AARCH64_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${KRAIT_AARCH64_SYSROOT}/usr/share/pkgconfig")

# No rpath of the building machine: qemu finds the libraries in the sysroot as the loader would.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L "${KRAIT_AARCH64_SYSROOT}")
