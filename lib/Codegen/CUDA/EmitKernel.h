// A CUDA kernel's emission: its stages, which of them one launch computes, and
// where their values lie.
#ifndef DLC_LIB_CODEGEN_CUDA_EMITKERNEL_H
#define DLC_LIB_CODEGEN_CUDA_EMITKERNEL_H

#include "Attention.h"
#include "Contraction.h"
#include "FoldCut.h"
#include "RowShare.h"
#include "StageEmitter.h"

#include "dlc/Codegen/CUDA/CudaKnobs.h"
#include "dlc/Codegen/CUDA/CudaLibraryCall.h"

namespace dlc {

inline constexpr unsigned kPointThreads = 256;
/// Of shared memory that row buffers of one kernel may take: leaves room for
/// several blocks on a multiprocessor.
inline constexpr int64_t kRowBufferBytes = 32 << 10;
/// Static shared memory of a block.
inline constexpr int64_t kMostSharedBytes = 48 << 10;
/// Of a multiprocessor that runs attention, at least: 255 registers are left
/// for each.
inline constexpr unsigned kAttentionThreads = 256;

/// A stage and where its value goes.
struct StagePlan {
  graph::StageOp stage;
  /// Indices of the results this stage is.
  llvm::SmallVector<unsigned> results;
  /// Index of its scratch buffer, if it has one, and of that of the parts of
  /// its folds, of which an element has `numParts`.
  std::optional<unsigned> scratch, parts;
  int64_t numParts = 1;
};

/// The block argument that result `i` of a load's map simply is.
std::optional<unsigned> plainCoordinate(graph::LoadOp load, unsigned i);

class CudaKernelEmitter {
public:
  CudaKernelEmitter(graph::KernelOp kernel, const CudaCodegenOptions &options)
      : kernel(kernel), options(options), context(kernel.getContext()) {}

  llvm::FailureOr<CudaKernel> emit();

  /// What the kernel's launches leave open, and whether they can be so.
  ScheduleSpace space();
  bool isLegal(const KnobValues &values, std::string &reason);
  CudaShape shape();

private:
  friend class RowEmitter;
  /// Stages that one launch computes: the first and those at its points.
  using Group = llvm::MutableArrayRef<StagePlan>;
  enum class Layout { Tiles, Reduce, Slices, Turned, Points };
  void analyse();
  bool readSchedule();
  Layout layoutOf(llvm::MutableArrayRef<StagePlan> group) const;
  /// The schedule's value; nothing where the rules choose.
  std::optional<int64_t> knob(const char *name) const;
  std::optional<Contraction> contractionOf(graph::StageOp stage) const;
  unsigned rowRank() const;
  bool rowsFillDevice(unsigned rank) const;
  bool passesRow(graph::StageOp stage, unsigned rank) const;
  bool readsAlongFold(graph::StageOp stage) const;
  std::optional<int64_t> rowElements(graph::StageOp stage, unsigned rank) const;
  unsigned rowThreads(unsigned rank) const;
  unsigned foldThreads(graph::StageOp stage) const;
  int64_t partsOf(llvm::MutableArrayRef<StagePlan> group) const;
  void addScratch(StagePlan &plan);
  llvm::SmallVector<mlir::Type> bufferTypes() const;
  /// A launch over the kernel's buffers and symbols.
  LaunchBuilder newLaunch(llvm::StringRef symbol, unsigned blockThreads,
                          unsigned residentThreads = kResidentThreads);
  void placeOperands(LaunchBuilder &launch, StageEmitter &emitter);
  mlir::Value resultMemory(LaunchBuilder &launch, const StagePlan &plan);
  void storeResults(LaunchBuilder &launch, StageEmitter &emitter,
                    const StagePlan &plan, Scalar element,
                    mlir::Value position);

  llvm::SmallVector<Group> formGroups();
  bool isReadOutside(const StagePlan &plan, Group group) const;
  llvm::LogicalResult storeGroup(LaunchBuilder &launch, StageEmitter &emitter,
                                 Group group, llvm::ArrayRef<Scalar> first,
                                 mlir::ValueRange point, mlir::Value position);
  void placeStages(LaunchBuilder &launch, StageEmitter &emitter);
  int64_t pointsAThread(Group group) const;
  llvm::LogicalResult computeGroup(StageEmitter &emitter, Group group,
                                   llvm::FailureOr<Scalar> first,
                                   mlir::ValueRange point,
                                   llvm::SmallVectorImpl<Scalar> &elements);
  llvm::LogicalResult emitPoints(Group group, llvm::StringRef symbol);
  bool isFewLongFolds(graph::StageOp stage) const;
  /// Of reduce and slices: as the rules and the schedule have it.
  FoldCut foldCutOf(graph::StageOp stage, bool isAlong) const;
  llvm::LogicalResult emitFolds(Group group, const FoldCut &cut,
                                llvm::StringRef symbol);
  int64_t countFoldParts(graph::StageOp stage) const;
  mlir::Value partsMemory(LaunchBuilder &launch, const StagePlan &plan);
  llvm::LogicalResult emitFoldParts(Group group, llvm::StringRef symbol);
  llvm::LogicalResult emitPartSums(Group group, llvm::StringRef symbol);
  /// Loads that are contiguous along `axis` of the domain and not along its
  /// innermost one.
  struct Turn {
    unsigned axis = 0;
    llvm::SmallVector<graph::LoadOp> loads;
  };
  std::optional<Turn> findTurn(Group group) const;
  int64_t turnSide(Group group, const Turn &turn) const;
  static int64_t turnBytes(const Turn &turn, int64_t side);
  llvm::LogicalResult emitTurned(Group group, Turn turn,
                                 llvm::StringRef symbol);
  llvm::LogicalResult emitContraction(Group group, const Contraction &match,
                                      llvm::StringRef symbol);
  llvm::LogicalResult emitAttention(const AttentionPlan &plan);
  llvm::LogicalResult emitAttentionMerge(const AttentionPlan &plan,
                                         const std::string &symbol);
  llvm::LogicalResult emitGroup(Group group, llvm::StringRef symbol);
  /// Of the library, in the place of the stage's launch.
  void addCall(const StagePlan &plan, const std::string &symbol);
  /// Where the stages of a row pass on values of the same element only.
  std::optional<RowShare> rowShare(Group group, unsigned rank) const;
  /// The same of folds, each element's a row, that are in no parts.
  std::optional<RowShare> foldShare(Group group) const;
  llvm::LogicalResult emitSharedRows(Group group, RowShare share, unsigned rank,
                                     llvm::StringRef symbol);
  llvm::LogicalResult emitRows(unsigned rank);
  llvm::LogicalResult emitRowStage(LaunchBuilder &launch, StageEmitter &emitter,
                                   StagePlan &plan, mlir::ValueRange row);

  graph::KernelOp kernel;
  const CudaCodegenOptions &options;
  mlir::MLIRContext *context;
  CudaKernel result;
  KnobValues knobs; ///< of the schedule
  // What analyse() finds.
  std::optional<AttentionPlan> attention; ///< by rule
  llvm::SmallVector<StagePlan> plans;
  llvm::SmallVector<Group> groups;
  unsigned rowAxes = 0; ///< of a launch of rows; 0: a launch a group
  std::optional<CudaLibraryCall> library; ///< by schedule
  unsigned libraryWorkspace = 0;          ///< its scratch buffer
  /// Per scratch buffer.
  llvm::SmallVector<mlir::Type> scratchTypes;
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_EMITKERNEL_H
