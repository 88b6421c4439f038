// The state that the stages of one compilation share, and the stages.
#ifndef DLC_LIB_DRIVER_COMPILATION_H
#define DLC_LIB_DRIVER_COMPILATION_H

#include "dlc/Artifact/Link.h"
#include "dlc/Artifact/ModelTable.h"
#include "dlc/Dialect/Graph/IR/Laws.h"
#include "dlc/Driver/Compiler.h"
#include "dlc/Driver/CudaModel.h"
#include "dlc/Driver/ModelSource.h"
#include "dlc/Driver/Progress.h"
#include "dlc/Fusion/Fusion.h"
#include "dlc/Layout/Concat.h"
#include "dlc/Layout/Layout.h"
#include "dlc/Program/Weights.h"
#include "dlc/Schedule/CostQuery.h"
#include "dlc/Schedule/SizeRange.h"
#include "dlc/Target/CUDA/Ptxas.h"
#include "dlc/Target/Targets.h"

#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

namespace dlc {

/// One kernel after code generation.
struct CompiledKernel {
  std::string name; ///< of the graph.kernel
  std::string nest;
  unsigned calls = 0;
  double seconds = 0;
  /// Of all calls in one run, at the typical sizes; and the least time for it.
  KernelWork work;
  double rooflineSeconds = 0;
  /// The kernel this one is a variant of; empty: it is called itself.
  std::string variantOf;
  /// The sizes it is compiled for, when they are a part of all.
  std::optional<SizeRange> range;
  /// Winograd's filtering: WinogradClaim::errorFactor; 0: another nest.
  double errorFactor = 0;
  /// The code uses matrix tiles, which the operating system has to permit.
  bool usesTiles = false;
  llvm::SmallVector<char, 0> object;  ///< ELF, when an object is wanted
  llvm::SmallVector<char, 0> bitcode; ///< LLVM's, when one module is wanted
};

struct Compilation {
  explicit Compilation(const CompileOptions &options, Progress &progress)
      : options(options), progress(progress) {}

  const CompileOptions &options;
  Progress &progress;
  /// None: interp, or kernels of cuda alone. The host of a device's artifact.
  std::optional<CpuTarget> target;
  std::optional<CudaTarget> cuda;
  std::string name; ///< C identifier
  /// Of a kernel library: matrices are not packed before they come.
  bool isInstance = false;
  std::vector<std::pair<EmitKind, std::string>> products;
  OutputSet outputs;
  OutputSet scratch; ///< temporary files, never committed

  ModelSource source;
  /// -verify=bisect: the kernels and their calls before they become the
  /// program, and as fusion left them, with certificates. In the context of
  /// `source`.
  mlir::OwningOpRef<mlir::ModuleOp> kernelModule, certifiedModule;
  /// Kernels that were copied for their constant operands, and what of.
  llvm::StringMap<std::string> copyOf;
  unsigned numOps = 0;
  fusion::FusionReport fusion; ///< empty with -fuse=off
  unsigned numRefused = 0;     ///< groups and claims that Check refused
  layout::LayoutReport layout; ///< tensors with another layout
  layout::PlaceReport placed;  ///< concatenations without work
  unsigned numKept = 0;        ///< kernels whose relayout Check refused
  struct {
    unsigned kernels = 0;  ///< that can be tuned
    unsigned tuned = 0;    ///< that got a schedule of the database
    unsigned measured = 0; ///< candidates, now
    unsigned failed = 0;   ///< of all trials of the searches
    double expectedGain = 1;
    std::vector<std::string> notes; ///< why kernels were left out
    struct Item {
      std::string kernel;
      double ratio = 1; ///< measured time over the default schedule's
    };
    std::vector<Item> items; ///< those with a schedule of the database
  } tuning;
  struct {
    struct Item {
      std::string name; ///< of the model's node
      double flops = 0;
      /// Of the outputs when this product alone is rounded; -1: not measured.
      double error = -1;
      bool isRounded = false;
    };
    std::vector<Item> products; ///< empty: -precision=f32
    /// Of Auto: measured on inputs that it chose by and on others; of one run
    /// of the float32 artifact and of the mixed one.
    double error = 0, f32Seconds = 0, seconds = 0;
    std::string note; ///< why nothing was rounded
    unsigned numRounded() const {
      return llvm::count_if(products,
                            [](const Item &item) { return item.isRounded; });
    }
  } precision;

  /// Of code generation's workers; packing functions may still refer to them.
  std::vector<std::unique_ptr<mlir::MLIRContext>> contexts;
  std::vector<CompiledKernel> kernels; ///< in the module's order
  KernelCodeMap code;
  std::string graphText, kernelText; ///< -emit=graph, -emit=kernels
  std::string ptx, cubin;            ///< -target=cuda
  std::string codegenNote;           ///< for the stage's line
  std::vector<DeviceImage::Module> deviceModules;
  /// What a library computes, by the symbol it has in place of a launch's.
  llvm::StringMap<dlc_device_call> deviceCalls;
  /// By the name of the launch.
  llvm::StringMap<KernelResources> resources;
  std::vector<std::string> assemblerRemarks; ///< PtxasResult::remarks

  /// The host program; the graph module became it.
  program::ModelOp program;
  std::vector<WeightsPiece> weights;
  int64_t arenaBytes = -1; ///< -1: depends on symbols
  ModelInfo info;
  llvm::LLVMContext llvmContext;
  std::unique_ptr<llvm::Module> hostModule;
  llvm::SmallVector<char, 0> hostObject;
  std::string weightsPath;

  mlir::ModuleOp getModule() { return *source.module; }
  /// Compiled kernels; the variants of one count once.
  size_t countKernels() const {
    return llvm::count_if(kernels, [](const CompiledKernel &kernel) {
      return kernel.variantOf.empty();
    });
  }
  graph::NumericsMode getMode() const {
    return options.strict     ? graph::NumericsMode::strict
           : options.fastConv ? graph::NumericsMode::fastConv
                              : graph::NumericsMode::reassoc;
  }
  bool wantsFusion() const { return options.fuse; }
  /// -verify=bisect reads every result where its kernel alone puts it.
  bool wantsPlacement() const { return target && !cuda && !options.bisect; }
  /// Sums of convolutions are taken in another order for it.
  bool wantsLayouts() const {
    return options.relayout && !options.strict && target && !cuda;
  }
  bool wantsObjects() const {
    return options.wants(EmitKind::Shared) || options.wants(EmitKind::Static);
  }
  bool wantsOneModule() const {
    return options.wants(EmitKind::LLVM) || options.wants(EmitKind::Asm) ||
           options.wants(EmitKind::Obj);
  }
  bool wantsCuda() const {
    return options.wants(EmitKind::Ptx) || options.wants(EmitKind::Cubin);
  }
  /// True when the kernels must be compiled for a CPU.
  bool wantsCode() const {
    return wantsObjects() || wantsOneModule() ||
           options.wants(EmitKind::Program) ||
           options.wants(EmitKind::Report) || options.wants(EmitKind::Header);
  }
};

/// -precision: rounds the factors of the products that it allows.
llvm::Error choosePrecision(Compilation &c);

/// Canonical graph operators to kernels and calls; kernels that are called
/// with a constant operand and without are told apart.
llvm::Error formKernels(Compilation &c);

/// Makes one kernel of each group of calls that pays as one. Groups that Check
/// refuses are split again. Certificates go to -dump-dir.
llvm::Error fuseKernels(Compilation &c);

/// Lets results be stored where concatenations want them.
void placeConcats(Compilation &c);

/// Relays tensors around convolutions, as far as Check admits it.
llvm::Error chooseLayouts(Compilation &c);

/// -tune: gives kernels the schedules of the tuning database, which a search
/// may fill first.
llvm::Error tuneKernels(Compilation &c);

/// Of a kernel library's instance, when there are variants: schedules where
/// those of models do not fit.
void scheduleInstance(Compilation &c);

/// Gives every kernel its schedule and has Check admit the laws it uses.
llvm::Error chooseSchedules(Compilation &c);

/// Gives kernels of symbolic size variants by range: copies, each with its own
/// schedule, which the kernel's attribute `graph.dispatch` lists.
void makeVariants(Compilation &c);

/// -plant-fault: whether it is well formed; breaks `kernel` if it matches.
llvm::Error checkFault(llvm::StringRef fault);
void plantFault(graph::KernelOp kernel, llvm::StringRef fault);

/// Code for each kernel, several at a time.
llvm::Error compileKernels(Compilation &c);

/// PTX of all kernels; where they are wanted the cubin, and what an artifact
/// needs of them.
llvm::Error compileCudaKernels(Compilation &c);

/// The host program: buffers, memory plan, weights' places, `execute`.
llvm::Error buildProgram(Compilation &c);

/// Writes the products.
llvm::Error writeProducts(Compilation &c);

/// Runs the written shared object beside the interpreter.
llvm::Error verifyProducts(Compilation &c);

/// From the options to the host program: everything before the products.
llvm::Error compileToProgram(Compilation &c);

/// The host's object of a program without public functions, for libraries.
llvm::Error emitPrivateHost(Compilation &c);

/// -emit=kernel-library: the folder of a manifest's library.
llvm::Expected<CompileResult> compileLibrary(const CompileOptions &options);

/// The JSON text of the report.
std::string makeReport(Compilation &c);

/// Runs one pass over the module with the debugging flags of `options`. Errors
/// carry the diagnostics the pass emitted.
llvm::Error runPasses(Compilation &c,
                      llvm::function_ref<void(mlir::PassManager &)> addPasses);

/// Text of an operation; the values of weights are left out.
std::string printOp(mlir::Operation *op);

/// -dump-dir: writes `text` as the next numbered file. No-op without the flag.
llvm::Error dumpText(Compilation &c, llvm::StringRef stem,
                     llvm::StringRef text);
/// The same for the module; printed only when it is wanted.
llvm::Error dumpModule(Compilation &c, llvm::StringRef stem);

} // namespace dlc

#endif // DLC_LIB_DRIVER_COMPILATION_H
