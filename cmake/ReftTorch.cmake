# Defines the imported target reft::torch from a LibTorch folder.
#
# LibTorch's own CMake package refuses to configure where the CUDA build of the library meets a machine without a CUDA
# toolkit, which is what `pip install torch` gives most people. The target is therefore always made from the folder:
# include paths, libraries, run path. It is looked for, in this order, in
#   REFT_TORCH_ROOT (variable or environment), Torch_DIR, CMAKE_PREFIX_PATH, an importable Python torch, <project>/.venv.

include_guard(GLOBAL)

function(reft_torch_candidates result)
  set(candidates ${REFT_TORCH_ROOT} $ENV{REFT_TORCH_ROOT})
  foreach(dir IN LISTS Torch_DIR ENV{Torch_DIR})
    if(dir)
      list(APPEND candidates "${dir}/../../..")
    endif()
  endforeach()
  string(REPLACE ":" ";" prefixes "$ENV{CMAKE_PREFIX_PATH}")
  foreach(prefix IN LISTS CMAKE_PREFIX_PATH prefixes)
    list(APPEND candidates "${prefix}" "${prefix}/../..")
  endforeach()
  foreach(python python3 "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../.venv/bin/python")
    execute_process(
      COMMAND ${python} -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
      OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    if(NOT failed)
      list(APPEND candidates "${folder}")
    endif()
  endforeach()
  set(${result} ${candidates} PARENT_SCOPE)
endfunction()

function(reft_find_torch_root)
  reft_torch_candidates(candidates)
  foreach(root IN LISTS candidates)
    if(EXISTS "${root}/include/torch/types.h" OR EXISTS "${root}/include/torch/csrc/api/include/torch/types.h")
      if(EXISTS "${root}/lib/libtorch_cpu.so")
        get_filename_component(root "${root}" REALPATH)
        set(REFT_TORCH_FOUND_ROOT "${root}" PARENT_SCOPE)
        return()
      endif()
    endif()
  endforeach()
  message(FATAL_ERROR
    "LibTorch was not found. Run cmake/bootstrap.sh, or name its folder: -DREFT_TORCH_ROOT=<folder with include/ and lib/>.")
endfunction()

function(reft_make_torch_target)
  reft_find_torch_root()
  set(root "${REFT_TORCH_FOUND_ROOT}")
  file(STRINGS "${root}/include/torch/headeronly/version.h" lines REGEX "define TORCH_VERSION_(MAJOR|MINOR) ")
  string(REGEX REPLACE ".*MAJOR ([0-9]+).*MINOR ([0-9]+).*" "\\1.\\2" version "${lines}")
  if(NOT version MATCHES "^[0-9]+\\.[0-9]+$" OR version VERSION_LESS 2.11)
    message(FATAL_ERROR "LibTorch 2.11 or newer is needed; ${root} holds '${version}'. "
      "Run cmake/bootstrap.sh, or name another folder: -DREFT_TORCH_ROOT=<folder>.")
  endif()

  add_library(reft::torch INTERFACE IMPORTED GLOBAL)
  target_include_directories(reft::torch SYSTEM INTERFACE "${root}/include" "${root}/include/torch/csrc/api/include")
  target_compile_definitions(reft::torch INTERFACE USE_C10D_GLOO USE_DISTRIBUTED USE_RPC USE_TENSORPIPE)
  target_link_directories(reft::torch INTERFACE "${root}/lib")
  target_link_libraries(reft::torch INTERFACE "${root}/lib/libtorch_cpu.so" "${root}/lib/libc10.so")
  target_link_options(reft::torch INTERFACE "LINKER:-rpath,${root}/lib")
  set(kind "CPU")
  if(EXISTS "${root}/lib/libtorch_cuda.so")
    set(kind "CUDA")
    # The CUDA libraries register their kernels when they are loaded, so nothing may drop them as unused.
    target_link_options(reft::torch INTERFACE "LINKER:--unresolved-symbols=ignore-in-shared-libs")
    target_link_libraries(reft::torch INTERFACE
      -Wl,--no-as-needed "${root}/lib/libtorch_cuda.so" "${root}/lib/libc10_cuda.so" "${root}/lib/libtorch.so" -Wl,--as-needed)
    file(GLOB nvidia "${root}/../nvidia/cu*/lib" "${root}/../nvidia/*/lib")
    foreach(folder IN LISTS nvidia)
      target_link_options(reft::torch INTERFACE "LINKER:-rpath,${folder}")
    endforeach()
    file(GLOB headers "${root}/../nvidia/cu*/include" /usr/local/cuda/include)
    foreach(folder IN LISTS headers)
      if(EXISTS "${folder}/cuda_runtime_api.h")
        target_include_directories(reft::torch SYSTEM INTERFACE "${folder}")
        target_compile_definitions(reft::torch INTERFACE REFT_HAS_CUDA)
        break()
      endif()
    endforeach()
  endif()
  message(STATUS "LibTorch ${version} (${kind}): ${root}")
endfunction()

if(NOT TARGET reft::torch)
  reft_make_torch_target()
endif()
