// The loops of one stage below those of its phase; private to the loop nests.
#ifndef DLC_LIB_CODEGEN_CPU_LOOPSTAGE_H
#define DLC_LIB_CODEGEN_CPU_LOOPSTAGE_H

#include "dlc/Codegen/CPU/LoopEmitter.h"
#include "dlc/Codegen/CPU/LoopPlan.h"

namespace dlc {

/// Emits the loops of a stage below those of the phase.
class StageLoops {
public:
  StageLoops(mlir::OpBuilder &builder, mlir::Location loc, const LoopExpr &expr,
             const LoopPlan &plan, LoopEmitter &emitter, bool maskedMemory,
             bool strict)
      : b(builder), loc(loc), expr(expr), plan(plan), emitter(emitter),
        index(emitter.indices()), maskedMemory(maskedMemory), strict(strict) {
    emitter.rowAxis = plan.rowAxis;
  }

  /// Loops over `axes`, outermost first, then over [begin, end) of the lane
  /// axis (null: all of it).
  void emit(llvm::ArrayRef<unsigned> axes, mlir::Value begin, mlir::Value end);

  /// The same for [begin, end) of the tiles' other axis, of all lanes.
  void emitTilesBetween(llvm::ArrayRef<unsigned> axes, mlir::Value begin,
                        mlir::Value end) {
    tileBegin = begin;
    tileEnd = end;
    emit(axes, mlir::Value(), mlir::Value());
  }

private:
  void emitRange(mlir::Value begin, mlir::Value end);
  bool emitCut(unsigned id, mlir::Value begin, mlir::Value end);
  void emitLeaf(mlir::Value begin, mlir::Value end);
  void emitTiles(mlir::Value begin, mlir::Value end);
  void emitInterleaved(mlir::Value begin, mlir::Value end);
  void emitAcross(mlir::Value begin, mlir::Value end);
  void emitTileAcross(mlir::Value at, unsigned count, mlir::Value begin,
                      mlir::Value end);
  bool isConstantLater(const LoopGuard &guard) const;
  std::optional<int64_t> takeLeast(const LoopNode &node, IndexPoly &poly) const;
  std::optional<unsigned> nextGuard();
  /// Whether the fold around a load leaves out the steps where a guard is
  /// false.
  bool isClipped(unsigned id, unsigned guard) const;
  /// Such guards hold in the middle and are constants elsewhere.
  bool dependsAcross(const LoopGuard &guard) const {
    return plan.acrossDim >= 0 && guard.expr.dependsOnDim(plan.acrossDim);
  }
  struct Cut {
    mlir::Value begin, end; ///< where the guards hold
    bool isExact = true;
    bool isUniform = true;              ///< it is all of the range or nothing
    llvm::SmallVector<unsigned> guards; ///< those that hold there
  };
  std::optional<Cut> findCut(unsigned id, mlir::Value begin, mlir::Value end);

  mlir::OpBuilder &b;
  mlir::Location loc;
  const LoopExpr &expr;
  const LoopPlan &plan;
  LoopEmitter &emitter;
  IndexEmitter &index;
  bool maskedMemory;
  bool strict;
  mlir::Value tileBegin, tileEnd;       ///< of plan.tileDim; null: all of it
  LoopGroups across;                    ///< the register tile, if there is one
  unsigned cuts = 0;                    ///< nested now
  unsigned leaves = 0;                  ///< copies of the code so far
  llvm::SmallDenseSet<unsigned> tested; ///< guards left to be tested
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_LOOPSTAGE_H
