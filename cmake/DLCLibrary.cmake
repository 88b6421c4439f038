# One folder, one library: dlc_library(<name> [LINK ...]) takes every .cpp of the
# folder it is called from, so that adding a file is not a CMake edit.
#
#   NO_MLIR_PCH   the folder includes no MLIR (or only a little): skip the
#                 precompiled header
#   LINK          what the library's headers and sources need (the edges of
#                 docs/architecture.md; utils/check-includes.py checks them)
function(dlc_library name)
  cmake_parse_arguments(ARG "NO_MLIR_PCH" "" "LINK;DEPENDS;SOURCES" ${ARGN})
  if(ARG_SOURCES)
    set(sources ${ARG_SOURCES})
  else()
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  endif()
  if(NOT sources)
    message(FATAL_ERROR "dlc_library(${name}): no sources in ${CMAKE_CURRENT_SOURCE_DIR}")
  endif()
  add_library(${name} STATIC ${sources})
  target_link_libraries(${name} PUBLIC ${ARG_LINK})
  target_compile_options(${name} PRIVATE ${DLC_WARNINGS})
  add_dependencies(${name} dlc-tablegen-all)
  if(ARG_DEPENDS)
    add_dependencies(${name} ${ARG_DEPENDS})
  endif()
  if(NOT ARG_NO_MLIR_PCH)
    target_precompile_headers(${name} REUSE_FROM dlc_pch)
  endif()
endfunction()

# dlc_tool(<name> LINK ...): a program in build/bin.
function(dlc_tool name)
  cmake_parse_arguments(ARG "NO_MLIR_PCH" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  add_executable(${name} ${sources})
  target_link_libraries(${name} PRIVATE ${ARG_LINK})
  target_compile_options(${name} PRIVATE ${DLC_WARNINGS})
  add_dependencies(${name} dlc-tablegen-all)
  if(NOT ARG_NO_MLIR_PCH)
    target_precompile_headers(${name} REUSE_FROM dlc_pch)
    # CMake compiles programs with -fPIE, the shared header is compiled with -fPIC.
    set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${name} PRIVATE -fPIC)
  endif()
endfunction()

# dlc_option_table(<target> <td file> <output>): the parser of a command line, for LLVM's option library, as
# "dlc/<output>" in the build tree; what includes it depends on <target>.
function(dlc_option_table target td out)
  set(output ${PROJECT_BINARY_DIR}/include/dlc/${out})
  cmake_path(GET output PARENT_PATH folder)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${folder}
    COMMAND ${DLC_LLVM_PREFIX}/bin/llvm-tblgen -gen-opt-parser-defs ${CMAKE_CURRENT_SOURCE_DIR}/${td}
            -I ${DLC_LLVM_PREFIX}/include -o ${output} -d ${output}.d
    DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${td} DEPFILE ${output}.d
    COMMENT "tablegen dlc/${out}")
  add_custom_target(${target} DEPENDS ${output})
endfunction()

# dlc_tablegen(<td file> <flag> <output> [-flag output]...): generated headers in the build tree, found as "dlc/...".
function(dlc_tablegen td)
  set(flags ${ARGN})
  cmake_path(RELATIVE_PATH CMAKE_CURRENT_SOURCE_DIR BASE_DIRECTORY ${PROJECT_SOURCE_DIR}/include OUTPUT_VARIABLE rel)
  set(outputs)
  while(flags)
    list(POP_FRONT flags flag out)
    string(REPLACE "," ";" flag "${flag}")
    set(output ${PROJECT_BINARY_DIR}/include/${rel}/${out})
    add_custom_command(OUTPUT ${output}
      COMMAND ${DLC_TBLGEN} ${flag} ${CMAKE_CURRENT_SOURCE_DIR}/${td}
              -I ${PROJECT_SOURCE_DIR}/include -I ${DLC_MLIR_INCLUDE}
              -o ${output} -d ${output}.d --write-if-changed
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${td} DEPFILE ${output}.d
      COMMENT "tablegen ${rel}/${out}")
    list(APPEND outputs ${output})
  endwhile()
  string(MAKE_C_IDENTIFIER "tablegen-${rel}-${td}" target)
  add_custom_target(${target} DEPENDS ${outputs})
  add_dependencies(dlc-tablegen-all ${target})
endfunction()
