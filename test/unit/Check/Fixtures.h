// Small programs in which something was fused rightly, as text. Tests accept
// them, and plant lies by replacing a piece of the fused text.
#ifndef DLC_TEST_UNIT_CHECK_FIXTURES_H
#define DLC_TEST_UNIT_CHECK_FIXTURES_H

#include "dlc/Check/Fusion.h"
#include "dlc/Dialect/Graph/IR/Graph.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"

#include <string>

namespace dlc::test {

struct Fixture {
  const char *name;
  const char *members; // the one-operator kernels
  const char *main;    // the original @main
  const char *fused;   // fused kernels, certificates, the fused @main
};

llvm::ArrayRef<Fixture> getFixtures();
const Fixture &getFixture(llvm::StringRef name);

/// Parses without verifying: a lie may be ill-formed.
inline mlir::OwningOpRef<mlir::ModuleOp> parse(mlir::MLIRContext &context,
                                               const std::string &text) {
  mlir::ParserConfig config(&context, /*verifyAfterParse=*/false);
  return mlir::parseSourceString<mlir::ModuleOp>(text, config);
}

inline void loadDialects(mlir::MLIRContext &context) {
  context.loadDialect<graph::GraphDialect, mlir::func::FuncDialect>();
}

} // namespace dlc::test

#endif // DLC_TEST_UNIT_CHECK_FIXTURES_H
