# Whether the CUDA backend can be built (FUSEDOPS_BUILD_CUDA), for which architectures, and how its
# objects and their resource reports are made.

set(FUSEDOPS_BUILD_CUDA OFF)

function(skip_cuda reason)
  if(FUSEDOPS_CUDA STREQUAL "ON")
    message(FATAL_ERROR "fusedops: FUSEDOPS_CUDA=ON, but ${reason}")
  endif()
  message(STATUS "fusedops: no CUDA backend: ${reason}")
endfunction()

if(FUSEDOPS_CUDA STREQUAL "OFF")
  skip_cuda("FUSEDOPS_CUDA=OFF")
  return()
endif()

# A toolkit first, then the compiler of NVIDIA's Python packages.
python_package_directory(nvidia NVIDIA_DIRECTORY)
find_program(
  FUSEDOPS_NVCC nvcc
  HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH
  PATHS /usr/local/cuda "${NVIDIA_DIRECTORY}/cu13" "${NVIDIA_DIRECTORY}/cuda_nvcc"
  PATH_SUFFIXES bin)
if(CMAKE_CUDA_COMPILER)
  set(FUSEDOPS_NVCC "${CMAKE_CUDA_COMPILER}")
endif()
if(NOT FUSEDOPS_NVCC)
  skip_cuda("there is no nvcc on PATH, in CUDA_HOME or in the package nvidia-cuda-nvcc")
  return()
endif()
set(CUTLASS_INCLUDE "${CUTLASS_DIRECTORY}/source/include")
if(NOT EXISTS "${CUTLASS_INCLUDE}/cute/tensor.hpp")
  skip_cuda(
    "the CUTLASS headers are missing: pip install --no-deps nvidia-cutlass (its dependencies are not needed)"
  )
  return()
endif()

set(CMAKE_CUDA_COMPILER "${FUSEDOPS_NVCC}")
set(CMAKE_CUDA_ARCHITECTURES OFF)  # the -gencode flags below say more than CMake can
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
enable_language(CUDA)
set(FUSEDOPS_BUILD_CUDA ON)
set(FUSEDOPS_CUDA_INCLUDE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
string(REGEX MATCH "^[0-9]+\\.[0-9]+" FUSEDOPS_CUDA_VERSION "${CMAKE_CUDA_COMPILER_VERSION}")
python_distribution_version(nvidia-cutlass FUSEDOPS_CUTLASS_VERSION)

set(FUSEDOPS_ARCHITECTURES "${FUSEDOPS_CUDA_ARCHITECTURES}")
if(NOT FUSEDOPS_ARCHITECTURES)
  execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader
                  OUTPUT_VARIABLE capabilities ERROR_QUIET)
  string(REGEX MATCHALL "[0-9]+\\.[0-9]" capabilities "${capabilities}")
  string(REPLACE "." "" FUSEDOPS_ARCHITECTURES "${capabilities}")
  list(REMOVE_DUPLICATES FUSEDOPS_ARCHITECTURES)
  list(TRANSFORM FUSEDOPS_ARCHITECTURES REPLACE "^90$" "90a")
endif()
if(NOT FUSEDOPS_ARCHITECTURES)
  set(FUSEDOPS_ARCHITECTURES 89 90a)
endif()

# mma.sync runs everywhere from sm_80 on, the PTX on cards newer than this build; wgmma only on
# sm_90a.
set(FUSEDOPS_SM80_GENCODE -gencode=arch=compute_80,code=compute_80)
set(FUSEDOPS_SM90_GENCODE "")
foreach(architecture IN LISTS FUSEDOPS_ARCHITECTURES)
  string(REGEX REPLACE "[af]$" "" number "${architecture}")
  if(number LESS 80)
    message(FATAL_ERROR "fusedops: the CUDA kernels need sm_80 or newer, not ${architecture}")
  endif()
  list(APPEND FUSEDOPS_SM80_GENCODE -gencode=arch=compute_${number},code=sm_${number})
  if(architecture STREQUAL "90a")
    set(FUSEDOPS_SM90_GENCODE -gencode=arch=compute_90a,code=sm_90a)
  endif()
endforeach()
list(REMOVE_DUPLICATES FUSEDOPS_SM80_GENCODE)
message(STATUS "fusedops: CUDA backend with nvcc ${CMAKE_CUDA_COMPILER_VERSION}, CUTLASS "
               "${FUSEDOPS_CUTLASS_VERSION}, for ${FUSEDOPS_ARCHITECTURES}")

# CUDA objects whose ptxas reports land beside them.
function(add_cuda_objects name gencode)
  add_library(${name} OBJECT ${ARGN})
  target_link_libraries(${name} PRIVATE fusedops_flags)
  target_include_directories(${name} SYSTEM PRIVATE "${CUTLASS_INCLUDE}")
  target_compile_options(
    ${name} PRIVATE ${gencode} --expt-relaxed-constexpr -Xptxas=-v -Xcompiler=-Wall,-Wextra)
  set(launcher "${Python_EXECUTABLE}" "${PROJECT_SOURCE_DIR}/cmake/ptxas_report.py")
  list(APPEND launcher ${CMAKE_CUDA_COMPILER_LAUNCHER})
  set_target_properties(${name} PROPERTIES CUDA_COMPILER_LAUNCHER "${launcher}")
endfunction()

# A C++ table of the objects' reports.
function(add_resource_table result)
  set(objects "")
  foreach(target IN LISTS ARGN)
    list(APPEND objects $<TARGET_OBJECTS:${target}>)
  endforeach()
  set(table "${PROJECT_BINARY_DIR}/resource_table.cpp")
  set(script "${PROJECT_SOURCE_DIR}/cmake/resource_table.py")
  add_custom_command(
    OUTPUT "${table}"
    COMMAND "${Python_EXECUTABLE}" "${script}" "${table}" ${objects}
    DEPENDS "${script}" ${objects}
    COMMAND_EXPAND_LISTS VERBATIM)
  set(${result} "${table}" PARENT_SCOPE)
endfunction()
