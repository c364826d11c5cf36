# What `cmake --install` puts under a prefix: the program, the library with its headers and what finds it, the bundled
# models where both look for them (../share/krait/models from bin/ and lib/), the licence and the README. The libraries of
# the rooms are no public interface. Nothing of it names the prefix, so it can be moved.
include(CMakePackageConfigHelpers)

if(TARGET krait_cli)
  install(TARGETS krait_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  if(TARGET krait_train_cli)
    # krait finds it beside itself; torch in Python loads the operators by their path.
    install(TARGETS krait_train_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
    install(TARGETS krait_operators LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}/krait")
  endif()
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/models/tales" "${PROJECT_SOURCE_DIR}/models/tales-m3"
    DESTINATION share/krait/models)
  install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/README.md" DESTINATION share/doc/krait)
endif()

install(TARGETS krait_shared EXPORT krait
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(FILES "${PROJECT_SOURCE_DIR}/include/krait.h" "${PROJECT_SOURCE_DIR}/include/krait.hpp"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")

# find_package(krait) gives krait::krait.
set(config_folder "${CMAKE_INSTALL_LIBDIR}/cmake/krait")
install(EXPORT krait NAMESPACE krait:: FILE krait-config.cmake DESTINATION "${config_folder}")
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/krait-config-version.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/krait-config-version.cmake" DESTINATION "${config_folder}")

# pkg-config krait. The prefix is told from where the file stands.
file(RELATIVE_PATH prefix_from_pc "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" prefix_from_pc "${prefix_from_pc}")
configure_file("${CMAKE_CURRENT_LIST_DIR}/krait.pc.in" "${CMAKE_CURRENT_BINARY_DIR}/krait.pc" @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/krait.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
