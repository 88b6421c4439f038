// Passes that make and improve the host program.
#ifndef DLC_PROGRAM_PASSES_TD
#define DLC_PROGRAM_PASSES_TD

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// Conversion
//===----------------------------------------------------------------------===//

def ConvertGraphToProgram : Pass<"convert-graph-to-program", "::mlir::ModuleOp"> {
  let summary = "turns func @main over kernel calls into a program.model, and kernels into declarations";
  let description = [{
    `%y = graph.call @k(%x)` becomes `%y = program.alloc ...` and
    `program.call @k(%x) -> (%y)`. A result of @main is written in place by the
    kernel that computes it. `graph.reshape` is the same buffer again. A result
    that is an input, a constant or another result is copied.

    Expects that only kernel calls, reshapes and constants are left in @main;
    reports every other operation.
  }];
  let options = [Option<"name", "name", "std::string", "\"main\"", "name of the program.model">];
  let dependentDialects = ["::dlc::program::ProgramDialect"];
}

//===----------------------------------------------------------------------===//
// Improvement (alphabetical)
//===----------------------------------------------------------------------===//

def PlanMemory : Pass<"program-plan-memory", "::dlc::program::ModelOp"> {
  let summary = "gives every program.alloc its place in the arena";
  let description = [{
    Buffers that are not alive at the same time share memory. When all sizes are
    constant every buffer gets an offset: larger ones first, each in the
    smallest gap that fits (best fit). Otherwise buffers share slots, chosen with
    the typical values of the symbols, and the host computes the offsets.
  }];
  let statistics = [Statistic<"numBuffers", "buffers", "intermediate buffers">];
}

#endif // DLC_PROGRAM_PASSES_TD
