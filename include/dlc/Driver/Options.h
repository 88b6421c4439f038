// What one run of the compiler is asked to do, and its command-line form.
#ifndef DLC_DRIVER_OPTIONS_H
#define DLC_DRIVER_OPTIONS_H

#include "dlc/Driver/Diagnostics.h"
#include "dlc/Frontend/ONNX/Limits.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace dlc {

/// What a compilation produces.
enum class EmitKind {
  Graph,
  Kernels,
  Program,
  LLVM,
  Asm,
  Obj,
  Static,
  Shared,
  Header,
  Report,
  Ptx,
  Cubin,
  KernelLibrary
};

llvm::StringRef toString(EmitKind kind);
std::optional<EmitKind> parseEmitKind(llvm::StringRef text);
/// ".so", ".mlir", ...
llvm::StringRef getExtension(EmitKind kind);
/// True for kinds that may go to standard output.
bool isText(EmitKind kind);

/// A dim symbol's values; a single one binds it.
struct DimRange {
  int64_t min = 0;
  int64_t max = INT64_MAX;
  int64_t typical = 1;
};

struct CompileOptions {
  enum class Weights { Auto, Embed, External };
  enum class Color { Auto, Always, Never };

  std::string input; ///< path, or "-" for an ONNX model on standard input
  /// The ONNX model itself; `input` is then its name in messages. Empty: read
  /// `input`.
  std::string inputBytes;
  std::string target =
      "host";         ///< see parseCpuTarget, parseCudaTarget; or "interp"
  std::string output; ///< empty: from the input's name; "-": standard output
  std::vector<EmitKind> emit; ///< empty: shared and header
  std::string name;           ///< C identifier; empty: from the input's name
  std::map<std::string, DimRange> dims;
  std::map<std::string, llvm::SmallVector<int64_t>> shapes;
  ModelLimits limits;
  bool strict = false;   ///< -fp=strict
  bool fastConv = false; ///< -fp=fast-conv
  bool fuse = true;      ///< -fuse=on
  bool relayout = true;  ///< -layout=auto
  /// -state: pairs `<input>:<output>`, or the one text "auto"; empty: none.
  std::vector<std::string> state;
  unsigned kvBits = 0;           ///< -kv: 8 or 4; 0: as is
  bool explainFusion = false;    ///< -explain=fusion
  bool explainAttention = false; ///< -explain=attention
  unsigned variants = 3;         ///< schedules of a kernel of symbolic size
  /// Hidden -force-variant: every kernel runs this variant (or its last one)
  /// for all sizes; -1: none.
  int forceVariant = -1;
  /// -precision: which float32 products have factors of bf16: none, all, as
  /// many as measured errors allow. Tf32: all of a GPU, when they are
  /// multiplied. `Probe` is asked for by Auto itself.
  enum class Precision { F32, Tf32, Bf16, Auto, Probe };
  Precision precision = Precision::F32;
  double maxError = 0; ///< of Auto: max|a-b| / max|b| of each output
  /// Of Bf16: the numbers of the products (findProducts); empty: all.
  std::vector<unsigned> roundedProducts;
  /// .npy files for Auto to measure on; empty: random inputs.
  std::vector<std::string> precisionInputs;
  Weights weights = Weights::Auto;
  bool fallback = true; ///< -fallback: cuda artifacts have PTX, too
  unsigned jobs = 0;    ///< 0: the CPUs this process may use
  /// -tune: schedules by the rules; the best of the database; of a search that
  /// fills the database first.
  enum class Tune { Off, Lookup, Search };
  Tune tune = Tune::Off;
  bool tuneStatic = false; ///< Search: times are estimated, nothing runs
  unsigned tuneTrials = 0; ///< of all kernels together; 0: see tuneSeconds
  double tuneSeconds = 0;
  unsigned tunePerKernel = 0; ///< -tune=quick: trials of each kernel
  uint64_t tuneSeed = 1;
  /// -tune-dim: the sizes at which kernels of symbolic sizes are measured.
  std::map<std::string, llvm::SmallVector<int64_t>> tuneDims;
  std::string tuningDb;   ///< the store; empty: the user's
  std::string tuneRunner; ///< runs dlc-cuda-measure; empty: it runs here
  /// -libraries: whether schedules of the nest `library` are measured and
  /// taken; All, which is hidden: wherever a library has the product,
  /// unmeasured.
  enum class Libraries { Off, On, All };
  Libraries libraries = Libraries::Off;
  bool verify = false;
  bool bisect = false;    ///< -verify=bisect; implies verify
  std::string plantFault; ///< hidden: see plantFault in lib/Driver

  bool verbose = false;
  bool quiet = false;
  bool timePasses = false;
  std::string printAfter; ///< a pass, "all", or empty
  std::string dumpDir;
  Color color = Color::Auto;
  bool jsonDiagnostics = false;

  /// The flags that shape the artifact, as text; recorded in it.
  std::string shapingFlags;

  /// True if `kind` was asked for.
  bool wants(EmitKind kind) const;
};

/// What the command line asks for.
struct CommandLine {
  enum class Action { Compile, Help, Version, ListTargets, ListOps };
  Action action = Action::Compile;
  CompileOptions options;
};

/// Parses the arguments after the program's name. Errors have code Usage, and
/// name the nearest flag for a misspelt one.
llvm::Expected<CommandLine>
parseCommandLine(llvm::ArrayRef<const char *> arguments);

/// Prints the text of -help.
void printHelp(llvm::raw_ostream &os);

/// Parses "batch=1" or "batch=1..64@8".
llvm::Error parseDim(llvm::StringRef text,
                     std::map<std::string, DimRange> &dims);
/// Parses "x:1x3x224x224".
llvm::Error
parseShape(llvm::StringRef text,
           std::map<std::string, llvm::SmallVector<int64_t>> &shapes);

} // namespace dlc

#endif // DLC_DRIVER_OPTIONS_H
