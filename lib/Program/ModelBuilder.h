// Makes the program.model of a function of kernel calls.
//
// The one idea: every tensor value is mapped to a buffer. A view maps to its
// operand's buffer, and a value that is a model output maps to the caller's
// buffer from the start, so that its kernel writes there directly.
//
// A tensor whose size the data tell lies in a buffer for the largest size that
// is possible; as an output it is copied when its size is known.
#ifndef DLC_LIB_PROGRAM_MODELBUILDER_H
#define DLC_LIB_PROGRAM_MODELBUILDER_H

#include "DataBounds.h"
#include "dlc/Dialect/Graph/IR/Control.h"
#include "dlc/Dialect/Graph/IR/State.h"
#include "dlc/Dialect/Program/IR/Program.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/DenseMap.h"

namespace dlc::program {

class ModelBuilder {
public:
  /// Puts the model before `main`.
  ModelBuilder(mlir::func::FuncOp main, llvm::StringRef name);

  void build();

private:
  /// A value that is not written in place, and where it goes.
  using Copies = llvm::SmallVector<std::pair<mlir::Value, mlir::Value>>;

  // Sizes
  mlir::AffineExpr getBytes(mlir::Type tensor);
  mlir::AffineExpr getLargestBytes(mlir::Type tensor);
  mlir::AffineMapAttr makeSizeAttr(mlir::AffineExpr bytes) {
    return makeSize(bytes, numSymbols);
  }

  // Buffers
  mlir::Value lookup(mlir::Value tensor) {
    return buffers.lookup(graph::getViewed(tensor));
  }
  mlir::Value makeAlloc(mlir::AffineExpr bytes, mlir::Location loc);
  mlir::Value getOrMakeBuffer(mlir::Value tensor);
  void findParts(mlir::Block &block);
  mlir::Value makePart(mlir::Value tensor);
  bool bindInPlace(mlir::Value tensor, mlir::Value target, mlir::Block *block);
  void addCopies(const Copies &copies);

  // Steps
  void bindInputs();
  void bindOutputs();
  void convertConstant(graph::ConstantOp op);
  void convertBlock(mlir::Block &block);
  void convertCall(graph::CallOp op);
  void convertPrefix(graph::PrefixOp op);
  void convertExpect(graph::ExpectOp op);
  void convertAppend(graph::AppendOp op);
  void convertUpdate(graph::UpdateOp op);
  void convertIf(graph::IfOp op);
  void convertLoop(graph::LoopOp op);
  void convertLoopBody(graph::LoopOp op, LoopOp loop);
  mlir::Value makeCurrent(graph::LoopOp op, unsigned i);
  template <typename OpT>
  void setSymbols(OpT op, mlir::TypeRange from, mlir::TypeRange to);
  mlir::ArrayAttr getOrigin(mlir::Operation *op);

  mlir::func::FuncOp main;
  mlir::OpBuilder builder;
  mlir::MLIRContext *context;
  ModelOp model;
  unsigned numSymbols;
  DataBounds data;
  llvm::DenseMap<mlir::Value, mlir::Value> buffers; // root tensor -> buffer
  /// The call of a concatenation, and the operand of it, that a root tensor is
  /// stored in the place of.
  llvm::DenseMap<mlir::Value, std::pair<graph::CallOp, unsigned>> parts;
  Copies outputCopies;
};

} // namespace dlc::program

#endif // DLC_LIB_PROGRAM_MODELBUILDER_H
