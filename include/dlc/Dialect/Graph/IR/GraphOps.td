// The whole dialect, for one tablegen run.
include "dlc/Dialect/Graph/IR/GraphBase.td"
include "dlc/Dialect/Graph/IR/KernelOps.td"
include "dlc/Dialect/Graph/IR/ElementwiseOps.td"
include "dlc/Dialect/Graph/IR/StructuredOps.td"
include "dlc/Dialect/Graph/IR/OpaqueOps.td"
