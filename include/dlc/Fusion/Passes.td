// The fusion pass.
#ifndef DLC_FUSION_PASSES_TD
#define DLC_FUSION_PASSES_TD

include "mlir/Pass/PassBase.td"

def FuseKernels : Pass<"graph-fuse-kernels", "::mlir::ModuleOp"> {
  let summary = "makes one kernel of the kernels of a group of calls";
  let description = [{
    Groups the calls of `@main` and gives each group of several a kernel with
    their composed expressions, a `graph.certificate` of what it computes, and
    one call. Kernels of members stay in the module: certificates call them.
    `graph-drop-certificates` ends that.
  }];
  let options = [
    Option<"explain", "explain", "bool", "false", "Print the groups, and for each pair of neighbours that "
           "stayed apart the first condition that failed, on standard error">,
    Option<"cores", "cores", "unsigned", "2", "Cores of the target that costs are for">,
    Option<"attention", "attention", "bool", "false", "Form every attention that is found, also where no nest takes it">,
    Option<"inside", "inside", "bool", "false", "Code generation takes graph.inside">,
    Option<"layouts", "layouts", "bool", "false", "Images that convolutions read have their channels last afterwards">
  ];
  let dependentDialects = ["::dlc::graph::GraphDialect"];
}

def DropCertificates : Pass<"graph-drop-certificates", "::mlir::ModuleOp"> {
  let summary = "erases certificates and the kernels that @main does not call";
}

def SplitFused : Pass<"graph-split-fused", "::mlir::ModuleOp"> {
  let summary = "puts the members of every certificate back in the place of its kernel's calls";
}

#endif // DLC_FUSION_PASSES_TD
