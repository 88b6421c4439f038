// The C header of a model: six declarations, and a comment that tells its
// inputs and outputs in words, since that is what its reader looks for.
#include "dlc/Artifact/ModelTable.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace dlc;

std::string dlc::toIdentifier(StringRef name) {
  static const StringSet<> reserved = {
      "auto",     "break",    "case",     "char",   "const",   "continue",
      "default",  "do",       "double",   "else",   "enum",    "extern",
      "float",    "for",      "goto",     "if",     "inline",  "int",
      "long",     "register", "restrict", "return", "short",   "signed",
      "sizeof",   "static",   "struct",   "switch", "typedef", "union",
      "unsigned", "void",     "volatile", "while",  "dlc"};
  std::string text;
  for (char c : name)
    text += isAlnum(c) || c == '_' ? c : '_';
  if (text.empty() || isDigit(text.front()))
    text.insert(text.begin(), '_');
  if (reserved.contains(text))
    text += '_';
  return text;
}

static std::string typeName(const TensorInfo &tensor) {
#define DLC_NARROW_TYPE(name, code, bits)                                      \
  if (tensor.typeCode == code && tensor.typeBits == bits)                      \
    return std::string(name) + " (a byte an element)";
#include "dlc/NarrowTypes.def"
  const char *stem = "type";
  switch (tensor.typeCode) {
  case kDLInt:
    stem = "i";
    break;
  case kDLUInt:
    stem = "u";
    break;
  case kDLFloat:
    stem = "f";
    break;
  case kDLBfloat:
    stem = "bf";
    break;
  case kDLBool:
    return "bool";
  }
  return stem + std::to_string(tensor.typeBits);
}

/// Text from a model may hold anything; it must not end the comment.
static std::string commentSafe(StringRef text) {
  std::string safe;
  for (char c : text) {
    bool ends = !safe.empty() && ((c == '/' && safe.back() == '*') ||
                                  (c == '*' && safe.back() == '/'));
    safe += ends || !isPrint(c) ? '?' : c;
  }
  return safe;
}

static void describe(raw_ostream &os, StringRef role,
                     const std::vector<TensorInfo> &tensors) {
  for (auto [index, tensor] : enumerate(tensors)) {
    os << " *   " << role << ' ' << index << "  " << commentSafe(tensor.name)
       << ": " << typeName(tensor) << " [";
    ListSeparator comma;
    for (const DimInfo &dim : tensor.dims)
      os << comma
         << (dim.text.empty() ? std::to_string(dim.value)
                              : commentSafe(dim.text));
    os << "]\n";
  }
}

std::string dlc::makeHeader(const ModelInfo &info) {
  std::string text;
  raw_string_ostream os(text);
  const std::string &n = info.name;
  std::string guard = StringRef(n).upper() + "_MODEL_H";

  os << "/* Model '" << n << "', compiled by dlc "
     << commentSafe(info.dlcVersion) << " for " << commentSafe(info.triple)
     << ".\n";
  describe(os, "input ", info.inputs);
  describe(os, "output", info.outputs);
  std::vector<TensorInfo> states;
  for (const StateInfo &state : info.states)
    states.push_back(state.tensor);
  describe(os, "state ", states);
  for (const SymbolInfo &symbol : info.symbols) {
    os << " *   dim '" << commentSafe(symbol.name) << "': " << symbol.min
       << "..";
    if (symbol.max != INT64_MAX)
      os << symbol.max;
    os << ", typically " << symbol.typical << '\n';
  }
  if (!info.weights.file.empty())
    os << " * Weights: " << commentSafe(info.weights.file) << " ("
       << info.weights.size
       << " bytes), beside the binary or named in the options.\n";
  os << (info.deviceType == kDLCPU
             ? " * Link with libm and pthread."
             : " * Runs on a CUDA device; tensors may lie there or on the host."
               "\n * Link with libm, pthread and libdl.")
     << " Made by a tool: do not edit. */\n"
     << "#ifndef " << guard << "\n#define " << guard << "\n\n"
     << "#include \"dlc/runtime.h\"\n\n"
     << "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n"
     << "#define " << StringRef(n).upper() << "_NUM_INPUTS "
     << info.inputs.size() << "\n#define " << StringRef(n).upper()
     << "_NUM_OUTPUTS " << info.outputs.size() << "\n\n"
     << "typedef dlc_instance " << n << "_t;\n\n"
     << "/* Names, types and dims of inputs and outputs; static. */\n"
     << "const dlc_info *" << n << "_get_info(void);\n\n"
     << "/* Makes an instance. options may be NULL. */\n"
     << "dlc_status " << n << "_create(const dlc_create_options *options, " << n
     << "_t **out);\n\n"
     << "/* Dims of all outputs for these inputs, one after the other. */\n"
     << "dlc_status " << n << "_output_shapes(" << n
     << "_t *model, const DLTensor *const *inputs, int64_t *dims);\n\n"
     << "/* Bytes of dlc_run_options.workspace for these inputs; SIZE_MAX when "
        "they do not fit. */\n"
     << "size_t " << n << "_workspace(" << n
     << "_t *model, const DLTensor *const *inputs);\n\n"
     << "/* Runs the model on compact row-major tensors. options may be NULL. "
        "*/\n"
     << "dlc_status " << n << "_run(" << n
     << "_t *model, const DLTensor *const *inputs, DLTensor *const *outputs,\n"
     << "    const dlc_run_options *options);\n\n"
     << "/* Frees the instance; NULL is ignored. */\n"
     << "void " << n << "_destroy(" << n << "_t *model);\n\n";
  if (!info.states.empty())
    os << "/* Rows in the caches that the instance keeps; their bytes; keeps "
          "the first `length`\n * rows (0: begins anew); room for `rows` of "
          "those that are replaced. */\n"
       << "int64_t " << n << "_state_length(" << n << "_t *model);\n"
       << "size_t " << n << "_state_bytes(" << n << "_t *model);\n"
       << "dlc_status " << n << "_state_truncate(" << n
       << "_t *model, int64_t length);\n"
       << "dlc_status " << n << "_state_reserve(" << n
       << "_t *model, int64_t rows);\n\n";
  os << "#ifdef __cplusplus\n} /* extern \"C\" */\n#endif\n#endif /* " << guard
     << " */\n";
  return text;
}
