# Language level, warnings, sanitizers and the compiler cache: what every target shares.
set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(KRAIT_CCACHE ccache)
if(KRAIT_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${KRAIT_CCACHE}")
endif()

add_library(krait_flags INTERFACE)
target_compile_options(krait_flags INTERFACE -Wall -Wextra -Wpedantic -fno-math-errno)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # std::stable_sort of libstdc++ 12 calls what C++17 deprecated, and clang says so at every use of it. g++ looks after
  # what we call ourselves.
  target_compile_options(krait_flags INTERFACE -Wno-deprecated-declarations)
endif()
if(KRAIT_WERROR)
  target_compile_options(krait_flags INTERFACE -Werror)
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  # The floor. Kernels are compiled for newer targets as well and chosen at run time.
  target_compile_options(krait_flags INTERFACE -march=x86-64-v2)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  # Highway compiles its NEON functions for the crypto extension by a pragma, which constructors that the compiler
  # supplies do not inherit: they could not inline Highway's. CPUs without the extension are fine, since only
  # intrinsics that no kernel uses become such instructions.
  target_compile_options(krait_flags INTERFACE -march=armv8-a+crypto)
endif()
if(KRAIT_SANITIZE)
  target_compile_options(krait_flags INTERFACE -fsanitize=${KRAIT_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(krait_flags INTERFACE -fsanitize=${KRAIT_SANITIZE})
  if(KRAIT_SANITIZE MATCHES "undefined")
    target_compile_options(krait_flags INTERFACE -fno-sanitize-recover=all)
  endif()
endif()
if(KRAIT_BUILD_FUZZ)
  target_compile_options(krait_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
