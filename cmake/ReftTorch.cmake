# Defines the imported target reft::torch from a LibTorch folder.
#
# LibTorch's own CMake package refuses to configure where the CUDA build of the library meets a machine without a CUDA
# toolkit, which is what `pip install torch` gives most people. The target is therefore always made from the folder:
# include paths, libraries, run path. It is looked for, in this order, in
#   REFT_TORCH_ROOT or Torch_DIR (variables or environment; if given they must hold one), CMAKE_PREFIX_PATH,
#   the Python first on PATH, <project>/.venv.
# `cmake -P ReftTorch.cmake` only looks: cmake/bootstrap.sh asks it whether something is missing.

include_guard(GLOBAL)
set(REFT_TORCH_MINIMUM 2.11)

# Sets `root` and `version` where `folder` holds a LibTorch, and empties both where not.
function(reft_inspect_torch folder root version)
  set(${root} "" PARENT_SCOPE)
  set(${version} "" PARENT_SCOPE)
  if(NOT EXISTS "${folder}/lib/libtorch_cpu.so")
    return()
  endif()
  foreach(header include/torch/headeronly/version.h include/torch/csrc/api/include/torch/version.h)
    if(EXISTS "${folder}/${header}")
      file(STRINGS "${folder}/${header}" lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
      if("${lines}" MATCHES "MAJOR ([0-9]+).*MINOR ([0-9]+).*PATCH ([0-9]+)")
        get_filename_component(folder "${folder}" REALPATH)
        set(${root} "${folder}" PARENT_SCOPE)
        set(${version} "${CMAKE_MATCH_1}.${CMAKE_MATCH_2}.${CMAKE_MATCH_3}" PARENT_SCOPE)
        return()
      endif()
    endif()
  endforeach()
endfunction()

# Sets REFT_TORCH_FOUND_ROOT, REFT_TORCH_VERSION and, where there is none, REFT_TORCH_PROBLEM.
function(reft_find_torch)
  set(passed_over "")
  macro(consider folder)
    reft_inspect_torch("${folder}" root version)
    if(root AND NOT version VERSION_LESS REFT_TORCH_MINIMUM)
      set(REFT_TORCH_FOUND_ROOT "${root}" PARENT_SCOPE)
      set(REFT_TORCH_VERSION "${version}" PARENT_SCOPE)
      return()
    elseif(root)
      string(APPEND passed_over "\n  passed over: ${root} is LibTorch ${version}")
    endif()
  endmacro()

  # A folder that somebody named is meant: another one in its place would be a silent surprise.
  foreach(name REFT_TORCH_ROOT Torch_DIR)
    set(up "")
    if(name STREQUAL "Torch_DIR")
      set(up "/../../..")  # it names share/cmake/Torch
    endif()
    foreach(value "${${name}}" "$ENV{${name}}")
      if(value)
        consider("${value}${up}")
        string(CONCAT problem "${name} is ${value}, which holds no LibTorch ${REFT_TORCH_MINIMUM} or newer.${passed_over}\n"
          "Correct it, or unset it: cmake/bootstrap.sh then finds or installs one.")
        set(REFT_TORCH_PROBLEM "${problem}" PARENT_SCOPE)
        return()
      endif()
    endforeach()
  endforeach()

  string(REPLACE ":" ";" prefixes "$ENV{CMAKE_PREFIX_PATH}")
  foreach(prefix IN LISTS CMAKE_PREFIX_PATH prefixes)
    consider("${prefix}")
    consider("${prefix}/../..")
  endforeach()

  # Finding the folder without importing it: that would take seconds. A half-installed torch has no metadata yet.
  foreach(python python3 "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../.venv/bin/python")
    execute_process(
      COMMAND "${python}" -c "import importlib.metadata as m, importlib.util as u
m.version('torch'); print(u.find_spec('torch').submodule_search_locations[0])"
      OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    if(NOT failed)
      consider("${folder}")
    endif()
  endforeach()
  string(CONCAT problem "LibTorch ${REFT_TORCH_MINIMUM} or newer was not found.${passed_over}\n"
    "Run cmake/bootstrap.sh, or name its folder: -DREFT_TORCH_ROOT=<folder with include/ and lib/>.")
  set(REFT_TORCH_PROBLEM "${problem}" PARENT_SCOPE)
endfunction()

# The parts that only the CUDA build has. Everything it needs at run time comes with the wheel, next to torch.
function(reft_add_cuda root)
  # These libraries register their kernels when they are loaded, so the linker must not drop them as unused; what they
  # themselves need may be absent where the program is linked.
  target_link_options(reft::torch INTERFACE "LINKER:--unresolved-symbols=ignore-in-shared-libs")
  target_link_libraries(reft::torch INTERFACE -Wl,--no-as-needed
    "${root}/lib/libtorch_cuda.so" "${root}/lib/libc10_cuda.so" "${root}/lib/libtorch.so" -Wl,--as-needed)
  file(GLOB folders "${root}/../nvidia/*/lib")
  foreach(folder IN LISTS folders)
    target_link_options(reft::torch INTERFACE "LINKER:-rpath,${folder}")
  endforeach()

  # Code that names CUDA's own types needs its headers, whole: the wheels split them over several packages.
  file(GLOB folders "${root}/../nvidia/cu[0-9]*/include" /usr/local/cuda/include)
  foreach(folder IN LISTS folders)
    file(GLOB cudart "${folder}/../lib/libcudart.so*" "${folder}/../lib64/libcudart.so*")
    if(cudart AND EXISTS "${folder}/cuda_runtime_api.h" AND EXISTS "${folder}/crt/host_defines.h")
      list(GET cudart 0 cudart)
      target_include_directories(reft::torch SYSTEM INTERFACE "${folder}")
      target_compile_definitions(reft::torch INTERFACE REFT_HAS_CUDA)
      target_link_libraries(reft::torch INTERFACE "${cudart}")
      # c10d's header of NCCL reads those of cuSPARSE, cuBLAS and cuSOLVER too.
      find_path(REFT_NCCL_INCLUDE nccl.h HINTS "${root}/../nvidia/nccl/include" "${folder}")
      mark_as_advanced(REFT_NCCL_INCLUDE)
      if(REFT_NCCL_INCLUDE AND EXISTS "${folder}/cusparse.h" AND EXISTS "${folder}/cublas_v2.h" AND EXISTS "${folder}/cusolver_common.h")
        target_include_directories(reft::torch SYSTEM INTERFACE "${REFT_NCCL_INCLUDE}")
        target_compile_definitions(reft::torch INTERFACE REFT_WITH_NCCL USE_C10D_NCCL)
      endif()
      break()
    endif()
  endforeach()
endfunction()

function(reft_make_torch_target)
  set(root "${REFT_TORCH_FOUND_ROOT}")
  add_library(reft::torch INTERFACE IMPORTED GLOBAL)
  target_include_directories(reft::torch SYSTEM INTERFACE "${root}/include" "${root}/include/torch/csrc/api/include")
  target_compile_definitions(reft::torch INTERFACE USE_C10D_GLOO USE_DISTRIBUTED USE_RPC USE_TENSORPIPE)
  target_link_libraries(reft::torch INTERFACE "${root}/lib/libtorch_cpu.so" "${root}/lib/libc10.so")
  target_link_options(reft::torch INTERFACE "LINKER:-rpath,${root}/lib")
  set(kind "CPU")
  if(EXISTS "${root}/lib/libtorch_cuda.so")
    set(kind "CUDA")
    reft_add_cuda("${root}")
  endif()
  message(STATUS "LibTorch ${REFT_TORCH_VERSION} (${kind}): ${root}")
endfunction()

if(NOT TARGET reft::torch)
  reft_find_torch()
  if(REFT_TORCH_PROBLEM)
    message(FATAL_ERROR "${REFT_TORCH_PROBLEM}")
  endif()
  if(NOT CMAKE_SCRIPT_MODE_FILE)
    reft_make_torch_target()
  endif()
endif()
