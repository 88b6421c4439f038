# dlc_unittest(<name> LINK <libraries>): the GoogleTest program build/test/unit/<name>
# from every .cpp of the folder; ctest runs each of its tests.
function(dlc_unittest name)
  cmake_parse_arguments(ARG "NO_MLIR_PCH" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  # A folder whose first test is still being written must not stop every build.
  if(NOT sources)
    message(WARNING "${name} has no tests")
    return()
  endif()
  add_executable(${name} ${sources})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/test/unit)
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gtest_main)
  target_compile_options(${name} PRIVATE ${DLC_WARNINGS})
  add_dependencies(${name} dlc-tablegen-all)
  if(NOT ARG_NO_MLIR_PCH)
    target_precompile_headers(${name} REUSE_FROM dlc_pch)
    # CMake compiles programs with -fPIE, the shared header is compiled with -fPIC.
    set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${name} PRIVATE -fPIC)
    target_link_libraries(${name} PRIVATE dlc_llvm)
  endif()
  # Found when ctest starts, not after each link: a broken test program is then
  # a failed test and not a failed build.
  gtest_discover_tests(${name} TEST_PREFIX ${name}. DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 300)
endfunction()
