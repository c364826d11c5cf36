# What `cmake --install` puts under a prefix: the program, the bundled model where the program looks for it
# (../share/krait/models from bin/), the licence and the README. The libraries of the rooms are no public interface.
if(TARGET krait_cli)
  install(TARGETS krait_cli RUNTIME DESTINATION bin)
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/models/tales" DESTINATION share/krait/models)
  install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/README.md" DESTINATION share/doc/krait)
endif()
