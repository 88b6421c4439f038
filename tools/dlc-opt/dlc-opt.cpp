// dlc-opt: runs dlc's passes over MLIR text, one at a time, as the lit tests
// do. It knows the dialects of all stages and nothing of ONNX files or targets.
#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Dialect/Graph/Transforms/Passes.h"
#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"
#include "dlc/Dialect/Program/IR/Program.h"
#include "dlc/Fusion/Passes.h"
#include "dlc/Layout/Passes.h"
#include "dlc/Program/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  registry.insert<mlir::arith::ArithDialect, mlir::func::FuncDialect,
                  dlc::graph::GraphDialect, dlc::onnxd::ONNXDialect,
                  dlc::program::ProgramDialect>();
  mlir::registerCanonicalizerPass();
  mlir::registerCSEPass();
  mlir::registerSymbolDCEPass();
  dlc::graph::registerGraphPasses();
  dlc::fusion::registerFusionPasses();
  dlc::layout::registerLayoutPasses();
  dlc::program::registerProgramPasses();
  return mlir::asMainReturnCode(
      mlir::MlirOptMain(argc, argv, "dlc's optimizer driver\n", registry));
}
