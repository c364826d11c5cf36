# Writes a .cpp that holds files as text, for krait/server/embedded_file.h. A script of CMake alone, so that it works
# for every compiler and target: cmake -DFOLDER=… -DFILES=a.js,b.css -DOUTPUT=… -P embed_files.cmake
set(type_html "text/html; charset=utf-8")
set(type_css "text/css; charset=utf-8")
set(type_js "text/javascript; charset=utf-8")
set(type_json "application/json")
set(type_svg "image/svg+xml")
set(delimiter "embedded")  # of raw string literals

file(WRITE "${OUTPUT}.new" [[
// Made by cmake/embed_files.cmake.
#include "krait/server/embedded_file.h"

#if defined(__clang__)
#pragma clang diagnostic ignored "-Woverlength-strings"
#endif

namespace krait::server {

std::span<const EmbeddedFile> embedded_files() {
  static constexpr EmbeddedFile kFiles[] = {
]])
string(REPLACE "," ";" files "${FILES}")
foreach(path IN LISTS files)
  file(READ "${FOLDER}/${path}" text)
  string(FIND "${text}" ")${delimiter}\"" at)
  if(NOT at EQUAL -1)
    message(FATAL_ERROR "${path} holds )${delimiter}\", which would end the literal that it is embedded in")
  endif()
  string(REGEX MATCH "[^.]+$" extension "${path}")
  if(NOT DEFINED "type_${extension}")
    message(FATAL_ERROR "${path}: no content type is known for .${extension}")
  endif()
  file(SHA256 "${FOLDER}/${path}" hash)
  string(SUBSTRING "${hash}" 0 20 tag)
  file(APPEND "${OUTPUT}.new"
    "      {\"${path}\", \"${type_${extension}}\", \"\\\"${tag}\\\"\",\n       R\"${delimiter}(${text})${delimiter}\"},\n")
endforeach()
file(APPEND "${OUTPUT}.new" [[
  };
  return kFiles;
}

}  // namespace krait::server
]])
file(RENAME "${OUTPUT}.new" "${OUTPUT}")
