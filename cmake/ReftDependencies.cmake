# The packages reft::reft links: reft::torch, fmt and nlohmann_json headers, PCRE2 and utf8proc.

include_guard(GLOBAL)
include("${CMAKE_CURRENT_LIST_DIR}/ReftTorch.cmake")

find_package(nlohmann_json 3.11 REQUIRED)

# Header and library rather than pkg-config: both are found in a relocated prefix too.
function(reft_import_library name header library package)
  if(TARGET reft::${name})
    return()
  endif()
  find_path(REFT_${name}_INCLUDE ${header})
  find_library(REFT_${name}_LIBRARY ${library})
  mark_as_advanced(REFT_${name}_INCLUDE REFT_${name}_LIBRARY)
  if(NOT REFT_${name}_INCLUDE OR NOT REFT_${name}_LIBRARY)
    message(FATAL_ERROR "${header} or lib${library} was not found. Run cmake/bootstrap.sh, or install ${package}.")
  endif()
  add_library(reft::${name} INTERFACE IMPORTED GLOBAL)
  target_include_directories(reft::${name} SYSTEM INTERFACE "${REFT_${name}_INCLUDE}")
  target_link_libraries(reft::${name} INTERFACE "${REFT_${name}_LIBRARY}")
endfunction()

reft_import_library(pcre2 pcre2.h pcre2-8 libpcre2-dev)
reft_import_library(utf8proc utf8proc.h utf8proc libutf8proc-dev)
