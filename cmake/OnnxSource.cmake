# onnx_src: onnx's own parser, checker, shape inference, version converter and
# function bodies, as a static library built from the source that its wheel
# ships (utils/fetch-onnx.sh). Include as "onnx/...", namespace onnx.
set(default_folder $ENV{DLC_ONNX_SOURCE})
if(NOT default_folder)
  set(default_folder $ENV{XDG_CACHE_HOME})
  if(NOT default_folder)
    set(default_folder $ENV{HOME}/.cache)
  endif()
  string(APPEND default_folder /dlc/onnx-1.23.2)
endif()
set(DLC_ONNX_SOURCE ${default_folder} CACHE PATH "onnx 1.23.2 source tree")
if(NOT EXISTS ${DLC_ONNX_SOURCE}/onnx/checker.cc)
  message(FATAL_ERROR "onnx's C++ source is not in ${DLC_ONNX_SOURCE}: run utils/fetch-onnx.sh (utils/install.sh does)")
endif()

set(onnx_generated ${PROJECT_BINARY_DIR}/onnx)
file(MAKE_DIRECTORY ${onnx_generated})
set(onnx_proto_sources)
foreach(proto onnx-ml onnx-data onnx-operators-ml)
  set(stem ${onnx_generated}/onnx/${proto}.pb)
  add_custom_command(OUTPUT ${stem}.cc ${stem}.h
    COMMAND protobuf::protoc -I ${DLC_ONNX_SOURCE} --cpp_out=${onnx_generated} onnx/${proto}.proto
    DEPENDS ${DLC_ONNX_SOURCE}/onnx/${proto}.proto
    COMMENT "protoc ${proto}")
  list(APPEND onnx_proto_sources ${stem}.cc ${stem}.h)
endforeach()

file(GLOB_RECURSE onnx_sources ${DLC_ONNX_SOURCE}/onnx/*.cc)
list(FILTER onnx_sources EXCLUDE REGEX "cpp2py_export\\.cc$") # the Python binding
add_library(onnx_src STATIC ${onnx_sources} ${onnx_proto_sources})
# Replaces the options of the folder: the library is other people's code, so it
# is neither warned about nor instrumented, and all presets share one compile
# in ccache. -O1: five CPU minutes instead of ten, and nothing here is hot.
set_target_properties(onnx_src PROPERTIES
  COMPILE_OPTIONS "-O1;-w" CXX_STANDARD 17
  INCLUDE_DIRECTORIES "")
target_include_directories(onnx_src SYSTEM PUBLIC ${DLC_ONNX_SOURCE} ${onnx_generated})
target_compile_definitions(onnx_src PUBLIC ONNX_ML=1 ONNX_NAMESPACE=onnx)
target_link_libraries(onnx_src PUBLIC protobuf::libprotobuf)
if(DLC_CCACHE)
  # Paths relative to the checkout: other clones of dlc find these objects in
  # the cache too. (Not for dlc's own files: their precompiled header holds
  # absolute paths.)
  set_target_properties(onnx_src PROPERTIES CXX_COMPILER_LAUNCHER
    "${CMAKE_COMMAND};-E;env;CCACHE_BASEDIR=${PROJECT_SOURCE_DIR};CCACHE_NOHASHDIR=1;${DLC_CCACHE}")
endif()
