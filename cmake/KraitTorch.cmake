# libtorch, for the half that learns (krait/nn, krait/train). Debian's package (libtorch-dev) puts a configuration file
# for CMake beside it that asks for the headers of all that torch itself was built with; its three libraries are all
# that is wanted, so they are found by themselves.
# Not under the sanitizers: libtorch is not built with them, and the kernels below it are tested without it.
option(KRAIT_LEARN "Build what trains, where libtorch is there" ON)
set(KRAIT_HAVE_TORCH OFF)
set(KRAIT_HAVE_GLOO OFF)
if(KRAIT_LEARN)
  find_path(KRAIT_TORCH_INCLUDE torch/csrc/api/include/torch/torch.h)
  find_library(KRAIT_TORCH_LIBRARY torch)
  find_library(KRAIT_TORCH_CPU_LIBRARY torch_cpu)
  find_library(KRAIT_C10_LIBRARY c10)
  find_library(KRAIT_PROTOBUF_LIBRARY protobuf)
  if(KRAIT_TORCH_INCLUDE AND KRAIT_TORCH_LIBRARY AND KRAIT_TORCH_CPU_LIBRARY AND KRAIT_C10_LIBRARY
      AND KRAIT_PROTOBUF_LIBRARY)
    set(KRAIT_HAVE_TORCH ON)
    add_library(krait_torch INTERFACE)
    target_include_directories(krait_torch SYSTEM INTERFACE
      "${KRAIT_TORCH_INCLUDE}" "${KRAIT_TORCH_INCLUDE}/torch/csrc/api/include")
    target_link_libraries(krait_torch INTERFACE
      "${KRAIT_TORCH_LIBRARY}" "${KRAIT_TORCH_CPU_LIBRARY}" "${KRAIT_C10_LIBRARY}"
      -Wl,--no-as-needed "${KRAIT_PROTOBUF_LIBRARY}" -Wl,--as-needed)
    # libsentencepiece brings a protobuf of its own under the names of libprotobuf, which libtorch loads: in one process
    # they crash before main. Who trains reads no SentencePiece models, and so must not load the library either: it is
    # left out as not needed where libprotobuf comes first (docs/decisions/0019-training-in-a-program-of-its-own.md).
    target_link_options(krait_torch INTERFACE -Wl,--as-needed)
    # Sums over processes: c10d's ProcessGroupGloo is in libtorch, and its header wants Gloo's.
    find_path(KRAIT_GLOO_INCLUDE gloo/context.h)
    find_library(KRAIT_GLOO_LIBRARY gloo)
    if(KRAIT_GLOO_INCLUDE AND KRAIT_GLOO_LIBRARY)
      set(KRAIT_HAVE_GLOO ON)
      add_library(krait_gloo INTERFACE)
      target_include_directories(krait_gloo SYSTEM INTERFACE "${KRAIT_GLOO_INCLUDE}")
      target_compile_definitions(krait_gloo INTERFACE USE_C10D_GLOO)
      target_link_libraries(krait_gloo INTERFACE krait_torch "${KRAIT_GLOO_LIBRARY}")
    else()
      message(STATUS "Gloo is not there: krait train runs in one process (./dev setup train installs it)")
    endif()
  else()
    message(STATUS "libtorch is not there: krait train is left out (./dev setup train installs it)")
  endif()
endif()
