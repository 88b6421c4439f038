// The texts of a library's folder.
#include "dlc/Library/Emit.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <nlohmann/json.hpp>

using namespace dlc::library;
using llvm::StringRef;
using Json = nlohmann::ordered_json;

// Texts that are compiled in, by the file's name.
static StringRef getText(StringRef name) {
  static const std::pair<const char *, const char *> texts[] = {
#include "LibraryTexts.inc"
  };
  for (auto &[file, text] : texts)
    if (name == file)
      return text;
  llvm_unreachable("not embedded");
}

// A template with the library's own words.
static std::string fill(const Build &build, StringRef file) {
  std::string text = getText(file).str();
  auto replace = [&](StringRef key, StringRef value) {
    for (size_t at = 0; (at = text.find(key, at)) != std::string::npos;
         at += value.size())
      text.replace(at, key.size(), value);
  };
  replace("%NAME%", build.library.name);
  replace("%VERSION%", build.version);
  replace("%DESCRIPTION%", build.library.description.empty()
                               ? "kernels compiled by dlc"
                               : build.library.description);
  return text;
}

static std::string commentSafe(StringRef text) {
  std::string safe;
  for (char c : text) {
    bool ends = !safe.empty() && ((c == '/' && safe.back() == '*') ||
                                  (c == '*' && safe.back() == '/'));
    safe += ends || !llvm::isPrint(c) ? '?' : c;
  }
  return safe;
}

//===----------------------------------------------------------------------===//
// The header
//===----------------------------------------------------------------------===//

// Breaks a comment's line.
static void writeComment(llvm::raw_ostream &os, StringRef text,
                         StringRef indent) {
  size_t column = 81;
  bool first = true;
  llvm::SmallVector<StringRef> words;
  text.split(words, ' ', -1, false);
  for (StringRef word : words) {
    if (column + word.size() + 1 > 78) {
      os << (first ? "" : "\n") << " *" << (first ? " " : indent) << word;
      column = 2 + indent.size() + word.size();
    } else {
      os << ' ' << word;
      column += word.size() + 1;
    }
    first = false;
  }
  os << "\n";
}

static void writeTensor(llvm::raw_ostream &os, const Operation &op,
                        const Tensor &tensor, bool onDevice) {
  if (op.packed && &tensor == &op.tensors[op.packed->tensor]) {
    writeComment(os, "  " + tensor.name + ": packed by the _pack function",
                 "     ");
    return;
  }
  std::string text = tensor.name + ": " + tensor.type->name + " [";
  llvm::ListSeparator comma;
  std::string shape;
  for (const Extent &extent : tensor.extents)
    shape += StringRef(comma).str() + extent.str(op.dims);
  bool isOnHost =
      onDevice && op.segments && &tensor == &op.tensors[op.segments->offsets];
  writeComment(os,
               "  " + text + shape + "]" +
                   (tensor.isOutput ? ", is written" : "") +
                   (isOnHost ? ", in memory of the host" : ""),
               "     ");
}

static void writeRange(llvm::raw_ostream &os, const Operation &op,
                       const Dim &dim) {
  (void)op;
  std::string text = "  " + dim.name + ": ";
  if (dim.range.isFixed())
    text += std::to_string(dim.range.min);
  else if (dim.range.isFree())
    text += "any";
  else
    text += std::to_string(dim.range.min) + ".." +
            (dim.range.max == INT64_MAX ? "" : std::to_string(dim.range.max));
  writeComment(os, text, "     ");
}

// The functions beside one that takes a packed tensor.
static void writePacking(llvm::raw_ostream &os, const Build &build,
                         const Operation &op) {
  const Library &library = build.library;
  std::string known;
  for (auto [i, dim] : llvm::enumerate(op.dims))
    if (op.isPackedBy(i))
      known += (known.empty() ? "" : ", ") + ("int64_t " + dim.name);
  const Tensor &original = op.packed->original;
  std::string name = library.name + "_" + op.name;
  os << "/* Bytes of '" << original.name
     << "' in packed form; -1 when no instance has these sizes. */\n"
     << "int64_t " << name << "_size(" << known << ");\n"
     << (build.onDevice ? "/* Copies it within the device, in the stream's "
                          "order. `packed` is 64-byte aligned. */\n"
                        : "/* Packs it, for this machine's CPU. `packed` is "
                          "64-byte aligned. */\n")
     << "dlc_status " << name << "_pack(" << known << ",\n    const "
     << original.type->c << " *" << original.name << ", uint8_t *packed"
     << (build.onDevice ? ", void *stream" : "") << ");\n";
}

static void writeFunction(llvm::raw_ostream &os, const Build &build,
                          const Operation &op) {
  os << "/*\n";
  writeComment(os, commentSafe(op.text), " ");
  for (const Dim &dim : op.dims)
    writeRange(os, op, dim);
  for (const Tensor &tensor : op.tensors)
    writeTensor(os, op, tensor, build.onDevice);
  os << " */\n";
  std::string line = "dlc_status " + build.library.name + "_" + op.name + "(";
  std::string indent(4, ' ');
  bool first = true;
  auto add = [&](const std::string &parameter) {
    std::string text = (first ? "" : ", ") + parameter;
    if (line.size() + text.size() > 78) {
      os << line << (first ? "" : ",") << "\n";
      line = indent + parameter;
    } else {
      line += text;
    }
    first = false;
  };
  for (const Dim &dim : op.dims)
    add("int64_t " + dim.name);
  for (const Tensor &tensor : op.tensors)
    add((tensor.isOutput ? "" : "const ") + std::string(tensor.type->c) + " *" +
        tensor.name);
  if (build.onDevice)
    add("void *stream");
  os << line << ");\n";
  if (op.packed)
    writePacking(os, build, op);
  os << "\n";
}

static std::string makeHeader(const Build &build) {
  std::string text;
  llvm::raw_string_ostream os(text);
  const Library &library = build.library;
  std::string guard = StringRef(library.name).upper() + "_LIBRARY_H";
  os << "/* Kernel library '" << library.name << "', compiled by dlc "
     << commentSafe(build.version) << " for " << commentSafe(build.triple)
     << ".\n";
  if (!library.description.empty())
    writeComment(os, commentSafe(library.description), " ");
  os << " * Link with libm and pthread. Made by a tool: do not edit.\n"
        " *\n"
        " * Tensors are compact and row-major, outputs overlap no other "
        "tensor. bf16 and f16\n"
        " * lie in uint16_t. A function returns DLC_OK, or a status whose text "
        "is\n"
        " * "
     << library.name
     << "_last_error(); functions may be called from several threads.";
  if (build.onDevice)
    os << "\n *\n"
          " * Pointers to tensors are addresses of the device's memory "
          "(CUdeviceptr). `stream` is\n"
          " * a CUstream or cudaStream_t, NULL the default one: calls return "
          "before their work is\n"
          " * done, as launches do. The device is the one of the thread's "
          "current context, which\n"
          " * is its primary one (that of the CUDA runtime); without a "
          "context device 0. The\n"
          " * driver is opened at run time.";
  os << " */\n"
     << "#ifndef " << guard << "\n#define " << guard << "\n\n"
     << "#include \"dlc/runtime.h\"\n\n"
     << getText("library.h") << "\n"
     << "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n";
  for (const Operation &op : library.operations)
    writeFunction(os, build, op);
  const std::string &n = library.name;
  const char *last = build.onDevice ? ", void *stream" : "";
  os << "/* The text of the last error of this thread's calls; never NULL. */\n"
     << "const char *" << n << "_last_error(void);\n\n";
  if (build.onDevice)
    os << "/* Gives back what calls loaded onto devices: code and workspaces. "
          "No "
          "call may be\n * running, nor its work on a device. */\n"
       << "dlc_status " << n << "_unload(void);\n\n";
  else
    os << "/* Threads of a call; 0: DLC_NUM_THREADS, OMP_NUM_THREADS, else the "
          "CPUs that\n * this process may use. */\n"
       << "dlc_status " << n << "_set_num_threads(int32_t num_threads);\n\n"
       << "/* The program's own threads instead of the pool; NULL: the pool. "
          "*/\n"
       << "dlc_status " << n
       << "_set_parallel_for(dlc_parallel_for_fn pf, void *pf_ctx);\n\n";
  os << "/* The operations, by number; NULL where there is none. */\n"
     << "int64_t " << n << "_num_operations(void);\n"
     << "const dlc_library_operation *" << n << "_operation(int64_t index);\n\n"
     << "/* Any operation: a value for each dim, a pointer for each tensor. "
        "*/\n"
     << "dlc_status " << n
     << "_run(const dlc_library_operation *operation,\n    const int64_t "
        "*dims, void *const *tensors"
     << last << ");\n\n"
     << "/* The same with one of its instances; a status where that does not "
        "take the\n * sizes or needs another CPU. */\n"
     << "dlc_status " << n
     << "_run_instance(const dlc_library_operation *operation,\n    int64_t "
        "instance, const int64_t *dims, void *const *tensors"
     << last << ");\n\n"
     << "/* Packed tensors of operations that take one: bytes, or -1; packs. "
        "For an instance,\n * or with -1 for this machine. Sizes that the "
        "packed form does not depend on are -1. */\n"
     << "int64_t " << n
     << "_packed_size(const dlc_library_operation *operation,\n    int64_t "
        "instance, const int64_t *dims);\n"
     << "dlc_status " << n
     << "_pack(const dlc_library_operation *operation,\n    int64_t "
        "instance, const int64_t *dims, const void *matrix, void *packed"
     << last << ");\n\n"
     << "/* The instance that a call with these sizes runs; -1: none. */\n"
     << "int64_t " << n
     << "_select(const dlc_library_operation *operation,\n    const int64_t "
        "*dims);\n\n"
     << "#ifdef __cplusplus\n} /* extern \"C\" */\n#endif\n#endif /* " << guard
     << " */\n";
  return text;
}

//===----------------------------------------------------------------------===//
// The operation table
//===----------------------------------------------------------------------===//

// As -emit=report says it of a model's kernels.
static Json describeKernels(const CompiledInstance &compiled) {
  Json kernels = Json::array();
  for (const DeviceKernel &kernel : compiled.deviceKernels) {
    Json launches = Json::array();
    for (const DeviceKernel::Launch &launch : kernel.launches) {
      Json one = {{"name", launch.name}, {"threads", launch.threads}};
      if (launch.registers >= 0) {
        one["registers"] = launch.registers;
        one["shared_bytes"] = launch.sharedBytes;
        one["stack_bytes"] = launch.stackBytes;
        one["spill_store_bytes"] = launch.spillStoreBytes;
        one["spill_load_bytes"] = launch.spillLoadBytes;
      }
      launches.push_back(std::move(one));
    }
    kernels.push_back({{"nest", kernel.nest}, {"launches", launches}});
  }
  return kernels;
}

static Json describeOperation(const Build &build, unsigned index) {
  const Operation &op = build.library.operations[index];
  Json json;
  json["name"] = op.name;
  json["function"] = build.library.name + "_" + op.name;
  json["kind"] = op.kind;
  json["dtype"] = op.type;
  json["text"] = op.text;
  json["attributes"] = Json::parse(op.attributes);
  json["dims"] = Json::array();
  auto bounds = [](const Range &range) {
    Json json;
    json["min"] = range.min;
    json["max"] = range.max == INT64_MAX ? Json() : Json(range.max);
    json["typical"] = range.typical;
    return json;
  };
  for (const Dim &dim : op.dims) {
    Json one;
    one["name"] = dim.name;
    one.update(bounds(dim.range));
    json["dims"].push_back(one);
  }
  json["tensors"] = Json::array();
  for (const Tensor &tensor : op.tensors) {
    Json one;
    one["name"] = tensor.name;
    one["dtype"] = tensor.type->name;
    one["output"] = tensor.isOutput;
    one["shape"] = Json::array();
    one["extents"] = Json::array();
    for (const Extent &e : tensor.extents) {
      one["shape"].push_back(e.str(op.dims));
      one["extents"].push_back({e.dim, e.offset, e.divisor, e.factor});
    }
    json["tensors"].push_back(one);
  }
  if (op.segments)
    json["segments"] = {{"rows", op.segments->rows},
                        {"groups", op.segments->groups},
                        {"offsets", op.segments->offsets}};
  if (op.packed) {
    Json one;
    one["tensor"] = op.tensors[op.packed->tensor].name;
    one["dtype"] = op.packed->original.type->name;
    one["shape"] = Json::array();
    one["extents"] = Json::array();
    for (const Extent &e : op.packed->original.extents) {
      one["shape"].push_back(e.str(op.dims));
      one["extents"].push_back({e.dim, e.offset, e.divisor, e.factor});
    }
    json["packed"] = one;
  }
  json["instances"] = Json::array();
  for (const CompiledInstance &compiled : build.instances[index]) {
    const Instance &instance = op.instances[compiled.instance];
    Json one;
    one["name"] = instance.name;
    one["cpu"] = build.cpus[compiled.cpu].name;
    one["ranges"] = Json::array();
    for (const Range &range : instance.ranges)
      one["ranges"].push_back(bounds(range));
    one["bytes"] = compiled.bytes;
    one["kernels"] = compiled.kernels;
    if (build.onDevice)
      one["device_kernels"] = describeKernels(compiled);
    json["instances"].push_back(one);
  }
  return json;
}

static std::string makeTable(const Build &build) {
  Json json;
  json["schema_version"] = 1;
  json["name"] = build.library.name;
  json["description"] = build.library.description;
  json["dlc_version"] = build.version;
  json["triple"] = build.triple;
  json["device"] = build.onDevice ? "cuda" : "cpu";
  json["cpus"] = Json::array();
  for (const Cpu &cpu : build.cpus)
    json["cpus"].push_back({{"name", cpu.name}, {"features", cpu.features}});
  json["operations"] = Json::array();
  for (unsigned i = 0; i < build.library.operations.size(); ++i)
    json["operations"].push_back(describeOperation(build, i));
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::vector<OutputFile> dlc::library::makeFiles(const Build &build) {
  const std::string &name = build.library.name;
  std::vector<OutputFile> files = {
      {"include/" + name + ".h", makeHeader(build)},
      {"include/dlc/runtime.h", getText("runtime.h").str()},
      {"include/dlc/dlpack.h", getText("dlpack.h").str()},
      {"lib/cmake/dlck/dlckConfig.cmake", fill(build, "dlckConfig.cmake")},
      {"lib/cmake/dlck/dlckConfigVersion.cmake",
       fill(build, "dlckConfigVersion.cmake")},
      {"lib/pkgconfig/" + name + ".pc", fill(build, "library.pc")},
      {"share/dlck/" + name + ".json", makeTable(build)},
      {"python/" + name + "/__init__.py", fill(build, "wrapper.py")},
      {"python/" + name + "/reference.py", fill(build, "reference.py")},
      {"python/" + name + "/profile.py", fill(build, "profile.py")},
  };
  if (build.onDevice)
    files.push_back(
        {"python/" + name + "/device.py", fill(build, "device.py")});
  return files;
}
