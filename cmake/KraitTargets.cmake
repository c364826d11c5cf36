# krait_add_room(NAME SOURCES … PUBLIC … PRIVATE …): the library of one folder of krait/.
function(krait_add_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(krait_${name} STATIC ${ROOM_SOURCES})
  add_library(krait::${name} ALIAS krait_${name})
  target_include_directories(krait_${name} PUBLIC "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>")
  target_link_libraries(krait_${name} PUBLIC ${ROOM_PUBLIC} PRIVATE krait_flags ${ROOM_PRIVATE})
endfunction()

# krait_add_tests(NAME LABEL label SOURCES … LINK …): one GoogleTest program, every test of it known to ctest. Programs
# that reach the kernels take a main that obeys KRAIT_TARGET.
function(krait_add_tests name)
  cmake_parse_arguments(TESTS "" "LABEL;TIMEOUT" "SOURCES;LINK" ${ARGN})
  if(NOT TESTS_TIMEOUT)
    set(TESTS_TIMEOUT 300)
  endif()
  add_executable(${name} ${TESTS_SOURCES})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_compile_definitions(${name} PRIVATE KRAIT_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if("${TESTS_LINK}" MATCHES "krait::(kernels|models|runtime)")
    target_link_libraries(${name} PRIVATE krait_flags ${TESTS_LINK} krait_simd_targets_main GTest::gtest)
  else()
    target_link_libraries(${name} PRIVATE krait_flags ${TESTS_LINK} GTest::gtest GTest::gtest_main)
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST
    PROPERTIES LABELS "${TESTS_LABEL}" TIMEOUT ${TESTS_TIMEOUT})
endfunction()

# krait_add_fuzzer(NAME SOURCE LINK …): a libFuzzer program, fed with tests/fuzz/corpus/NAME. As a test (label fuzz) it
# runs for KRAIT_FUZZ_SECONDS of the environment; what it found is kept in the build tree.
function(krait_add_fuzzer name source)
  add_executable(${name} ${source})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE krait_flags ${ARGN})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  add_test(NAME ${name}
    COMMAND "${PROJECT_SOURCE_DIR}/tools/run_fuzzer.sh" "$<TARGET_FILE:${name}>"
      "${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name}" "${CMAKE_CURRENT_BINARY_DIR}/${name}.found")
  set_tests_properties(${name} PROPERTIES LABELS fuzz)
endfunction()
