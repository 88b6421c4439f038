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

def CheckMemory : Pass<"program-check-memory", "::dlc::program::ModelOp"> {
  let summary = "refuses a memory plan by which a step reads what another has overwritten";
  let description = [{
    Follows the steps with the places that the plan gave: every buffer that a step
    reads must still hold what was written to it. A result may lie over an operand
    of the same call only as a pair of `in_place`, at the same place, of the same
    size. Knows nothing of how the plan was made.
  }];
}

def PlanMemory : Pass<"program-plan-memory", "::dlc::program::ModelOp"> {
  let summary = "gives every program.alloc its place in the arena";
  let description = [{
    Buffers that are not alive at the same time share memory. When all sizes are
    constant every buffer gets an offset, each in the smallest gap that fits (best
    fit), larger ones first or in the order, of some, that needs least. Otherwise buffers share slots, chosen with
    the typical values of the symbols, and the host computes the offsets.

    A result takes the place of an operand of its size where the kernel allows
    it (`in_place`) and nothing after the call names the operand's buffer. Inputs,
    outputs, constants and what a loop carries keep their places.
  }];
  let statistics = [Statistic<"numBuffers", "buffers", "intermediate buffers">,
                    Statistic<"numInPlace", "in-place", "results in the place of an operand">];
}

#endif // DLC_PROGRAM_PASSES_TD
