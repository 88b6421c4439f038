// The scalar expression of a stage as code: what one thread computes at one
// point. Where tensors lie is the nest's business, given as TensorPlace.
#ifndef DLC_LIB_CODEGEN_CUDA_STAGEEMITTER_H
#define DLC_LIB_CODEGEN_CUDA_STAGEEMITTER_H

#include "CudaScalars.h"
#include "LaunchBuilder.h"

#include "dlc/Dialect/Graph/IR/Graph.h"

#include "llvm/ADT/DenseMap.h"

#include <map>
#include <vector>

namespace dlc {

/// Where the elements of a tensor are while a launch runs.
struct TensorPlace {
  /// A memref that holds them row-major from axis `firstAxis` on; null: the
  /// tensor has one element a row, `scalar`.
  mlir::Value memory;
  Scalar scalar;
  /// Leading axes that are the running row's and hence not in `memory`.
  unsigned firstAxis = 0;
  /// The scalar is the same for all elements of the running row.
  bool isOfRow = false;
};

class StageEmitter {
public:
  StageEmitter(LaunchBuilder &launch, bool strict)
      : launch(launch), scalars(launch.builder(), launch.loc(), strict) {}

  void place(mlir::Value tensor, TensorPlace where) { places[tensor] = where; }

  /// From now on an operand's element is loaded once, wherever it is read again
  /// at the same coordinates: the same values, all in one block of code.
  void reuseLoads() { reusesLoads = true; }
  /// What was loaded is out of scope.
  void forgetLoads() { loaded.clear(); }

  /// The value of the stage's body at these coordinates (domain, then reduce).
  /// Fails with a diagnostic on what is not supported.
  llvm::FailureOr<Scalar> body(graph::StageOp stage,
                               mlir::ValueRange coordinates);

  /// A scalar of the stage's body at these coordinates; what it does not depend
  /// on is not computed.
  llvm::FailureOr<Scalar> scalar(graph::StageOp stage,
                                 mlir::ValueRange coordinates,
                                 mlir::Value wanted);

  /// What the stage's fold starts from.
  Scalar foldStart(graph::StageOp stage);
  mlir::Value identity(graph::StageOp stage);

  /// The stage's element at a domain point: its body, or a serial fold of it in
  /// the order of the reduce axes.
  llvm::FailureOr<Scalar> element(graph::StageOp stage, mlir::ValueRange point);

  /// Like element(), with the reduce points dealt out to the threads of the
  /// block; every thread gets the result. Not for argmin and argmax.
  llvm::FailureOr<Scalar> elementByBlock(graph::StageOp stage,
                                         mlir::ValueRange point);

  /// The fold of every `step`-th reduce point from `first` on, without the
  /// stage's initial value. Not for argmin and argmax.
  llvm::FailureOr<Scalar> foldPart(graph::StageOp stage, mlir::ValueRange point,
                                   mlir::Value first, int64_t step);
  /// The same at several domain points, `together` neighbour steps of the
  /// innermost reduce axis at a time: `first` and `stride` count such groups,
  /// which divide that axis.
  llvm::FailureOr<llvm::SmallVector<mlir::Value>>
  foldParts(graph::StageOp stage,
            llvm::ArrayRef<llvm::SmallVector<mlir::Value>> points,
            mlir::Value first, int64_t stride, int64_t together);
  /// Two parts of the stage's fold, and what it starts from, if it says so.
  mlir::Value combineParts(graph::StageOp stage, mlir::Value x, mlir::Value y);
  Scalar addStart(graph::StageOp stage, mlir::Value fold);

  /// Stores an element at row-major position `position` of `memory`.
  void store(Scalar element, mlir::Value memory, mlir::Value position);

  /// An element as it lies in memory.
  mlir::Value toStorage(Scalar element) { return scalars.toStorage(element); }

  /// Row-major position of a point in a tensor of these sizes.
  mlir::Value linear(mlir::ValueRange point,
                     llvm::ArrayRef<mlir::AffineExpr> sizes);

  /// Where a load reads in global memory: a flat memref, the element's number
  /// there, and whether its guard holds (null: it has none).
  struct LoadPlace {
    mlir::Value memory, position, holds;
  };
  LoadPlace placeOf(graph::LoadOp op, mlir::ValueRange coordinates);
  /// The flat memref that an operand lies in.
  mlir::Value memoryOf(mlir::Value tensor) {
    return places.find(tensor)->second.memory;
  }

private:
  Scalar load(graph::LoadOp op, mlir::ValueRange coordinates, Scalar other);
  mlir::Value guardHolds(mlir::IntegerSet set, mlir::ValueRange coordinates);
  mlir::Value checkedIndex(graph::ToIndexOp op, mlir::Value value);
  llvm::FailureOr<Scalar> argFold(graph::StageOp stage, mlir::ValueRange point);

  LaunchBuilder &launch;
  CudaScalars scalars;
  llvm::DenseMap<mlir::Value, TensorPlace> places;
  bool reusesLoads = false;
  /// By tensor, map and coordinates.
  std::map<std::vector<const void *>, Scalar> loaded;
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_STAGEEMITTER_H
