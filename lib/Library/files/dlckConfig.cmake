# find_package(dlck): the kernel library '%NAME%', compiled by dlc %VERSION%.
#   dlck::%NAME%          the static library
#   dlck::%NAME%_shared   the shared one
cmake_minimum_required(VERSION 3.16)
get_filename_component(_dlck_root "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
include(CMakeFindDependencyMacro)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_dependency(Threads)
if(NOT TARGET dlck::%NAME%)
  add_library(dlck::%NAME% STATIC IMPORTED)
  set_target_properties(dlck::%NAME% PROPERTIES
    IMPORTED_LOCATION "${_dlck_root}/lib/lib%NAME%.a"
    INTERFACE_INCLUDE_DIRECTORIES "${_dlck_root}/include"
    INTERFACE_LINK_LIBRARIES "m;Threads::Threads")
  add_library(dlck::%NAME%_shared SHARED IMPORTED)
  set_target_properties(dlck::%NAME%_shared PROPERTIES
    IMPORTED_LOCATION "${_dlck_root}/lib/lib%NAME%.so"
    IMPORTED_SONAME "lib%NAME%.so"
    INTERFACE_INCLUDE_DIRECTORIES "${_dlck_root}/include")
endif()
set(dlck_LIBRARIES dlck::%NAME%)
set(dlck_INCLUDE_DIRS "${_dlck_root}/include")
unset(_dlck_root)
