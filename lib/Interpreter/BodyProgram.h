// A stage's body made ready for evaluation block by block: each scalar of the
// body is an array of lanes, and each operation one loop over them.
#ifndef DLC_LIB_INTERPRETER_BODYPROGRAM_H
#define DLC_LIB_INTERPRETER_BODYPROGRAM_H

#include "IndexExpr.h"
#include "PointBlock.h"
#include "ScalarLanes.h"
#include "dlc/Interpreter/Tensor.h"
#include "mlir/IR/IntegerSet.h"

#include <memory>
#include <mutex>
#include <string>

namespace dlc::interp {

/// The first error of an evaluation, whichever thread meets it.
class ErrorSink {
public:
  void report(mlir::Location where, const llvm::Twine &text);
  bool failed() const { return found; }
  /// Emits what was reported; failure if there was anything.
  llvm::LogicalResult emit() const;

private:
  std::mutex mutex;
  std::atomic<bool> found = false;
  std::optional<mlir::Location> location;
  std::string message;
};

/// Where a body reads: the tensors of the kernel's values.
using TensorLookup = llvm::function_ref<const Tensor &(mlir::Value)>;

class BodyProgram {
public:
  /// The operations of `stage` that `root` needs. `extents` are the sizes of
  /// the domain and reduce axes, `inner` the axis that blocks will run along.
  /// What cannot be evaluated is reported to `errors`.
  BodyProgram(graph::StageOp stage, mlir::Value root,
              llvm::ArrayRef<int64_t> symbols, llvm::ArrayRef<int64_t> extents,
              int inner, TensorLookup tensorOf, const MathTable &math,
              ErrorSink &errors);

  LaneType getRootType() const { return instructions[root].type; }
  unsigned getNumInstructions() const { return instructions.size(); }
  ErrorSink &getErrors() const { return errors; }

private:
  friend class BodyState;
  struct Guard {
    IndexExpr expr;
    bool isEquality;
    std::optional<int64_t> step; // along the inner axis
  };
  struct Load {
    Tensor tensor;
    llvm::SmallVector<IndexExpr, 4> index;
    llvm::SmallVector<int64_t, 4> strides;
    IndexExpr offset;            // the flat element index
    std::optional<int64_t> step; // of offset, along the inner axis
    std::vector<Guard> guards;
    bool byRuns; // offset and guards are linear along the inner axis
    int other = -1;
  };
  enum class Kind { Load, Apply, Cast, Literal, Coord, Inside, ToIndex };
  struct Instruction {
    Kind kind;
    mlir::Operation *op;
    LaneType type;
    llvm::SmallVector<unsigned, 3> args;
    ApplyFn apply = nullptr;
    CastFn cast = nullptr;
    std::unique_ptr<Load> load;
    std::vector<Guard> inside;
    IndexExpr index;  // Coord
    int64_t size = 0; // ToIndex
  };

  // Building.
  mlir::AffineExpr bind(mlir::AffineExpr expr, mlir::OperandRange coords) const;
  std::vector<Guard> bind(mlir::IntegerSet set,
                          mlir::OperandRange coords) const;
  bool addLoad(graph::LoadOp op, Instruction &instruction,
               TensorLookup tensorOf);
  bool add(mlir::Operation *op, TensorLookup tensorOf);

  llvm::SmallVector<mlir::AffineExpr> symbolConstants;
  llvm::SmallVector<int64_t, 8> extents;
  int inner;
  const MathTable &math;
  ErrorSink &errors;
  std::vector<Instruction> instructions;
  llvm::DenseMap<mlir::Value, unsigned> numbers;
  llvm::SmallVector<unsigned> dataCoords; // instruction of each data coordinate
  llvm::DenseMap<mlir::Value, unsigned> dataCoordNumbers;
  unsigned root = 0;
};

/// The lanes of one thread.
class BodyState {
public:
  explicit BodyState(const BodyProgram &program);

  /// Evaluates the body at the block's points (at most kBlock); false after an
  /// error.
  bool run(const PointBlock &block);
  /// The root's lanes after run.
  const void *getRoot() const { return lanesOf(program.root); }

private:
  char *lanesOf(unsigned instruction) const {
    return storage.get() +
           instruction * kBlock * static_cast<int64_t>(sizeof(int64_t));
  }
  const int64_t *dim(unsigned d);
  void runLoad(const BodyProgram::Instruction &instruction, char *out);
  void runLoadByLanes(const BodyProgram::Instruction &instruction, char *out);
  void evaluateGuards(llvm::ArrayRef<BodyProgram::Guard> guards, bool *inside);
  void runToIndex(const BodyProgram::Instruction &instruction, char *out);

  const BodyProgram &program;
  const PointBlock *block = nullptr;
  std::unique_ptr<char[]> storage;
  std::vector<std::unique_ptr<int64_t[]>> axisLanes;
  llvm::SmallVector<bool, 8> axisReady;
};

} // namespace dlc::interp

#endif // DLC_LIB_INTERPRETER_BODYPROGRAM_H
