# The packages reft::reft links: reft::torch, fmt and nlohmann_json headers, PCRE2, utf8proc, and SentencePiece where it is.

include_guard(GLOBAL)
include("${CMAKE_CURRENT_LIST_DIR}/ReftTorch.cmake")

find_package(nlohmann_json 3.11 REQUIRED)

option(REFT_USE_SENTENCEPIECE "Read tokenizer.model files, where SentencePiece is installed" ON)

# Header and library rather than pkg-config: both are found in a relocated prefix too. Sets REFT_<name>_FOUND.
function(reft_import_library name header library)
  find_path(REFT_${name}_INCLUDE ${header})
  find_library(REFT_${name}_LIBRARY ${library})
  mark_as_advanced(REFT_${name}_INCLUDE REFT_${name}_LIBRARY)
  set(REFT_${name}_FOUND FALSE PARENT_SCOPE)
  if(NOT REFT_${name}_INCLUDE OR NOT REFT_${name}_LIBRARY)
    return()
  endif()
  set(REFT_${name}_FOUND TRUE PARENT_SCOPE)
  if(NOT TARGET reft::${name})
    add_library(reft::${name} INTERFACE IMPORTED GLOBAL)
    target_include_directories(reft::${name} SYSTEM INTERFACE "${REFT_${name}_INCLUDE}")
    target_link_libraries(reft::${name} INTERFACE "${REFT_${name}_LIBRARY}")
  endif()
endfunction()

function(reft_require_library name header library package)
  reft_import_library(${name} ${header} ${library})
  if(NOT REFT_${name}_FOUND)
    message(FATAL_ERROR "${header} or lib${library} was not found. Run cmake/bootstrap.sh, or install ${package}.")
  endif()
endfunction()

reft_require_library(pcre2 pcre2.h pcre2-8 libpcre2-dev)
reft_require_library(utf8proc utf8proc.h utf8proc libutf8proc-dev)

# The target is there without the library too: what is exported links it.
set(REFT_sentencepiece_FOUND FALSE)
if(REFT_USE_SENTENCEPIECE)
  reft_import_library(sentencepiece sentencepiece_processor.h sentencepiece)
endif()
if(REFT_sentencepiece_FOUND)
  set_property(TARGET reft::sentencepiece PROPERTY INTERFACE_COMPILE_DEFINITIONS REFT_HAS_SENTENCEPIECE)
elseif(NOT TARGET reft::sentencepiece)
  add_library(reft::sentencepiece INTERFACE IMPORTED GLOBAL)
endif()
