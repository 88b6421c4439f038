// Surgery on ONNX models: taking nodes out and keeping what is left valid.
#ifndef DLC_TOOLS_DLC_REDUCE_MODEL_H
#define DLC_TOOLS_DLC_REDUCE_MODEL_H

#include "onnx/onnx_pb.h"
#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/StringMap.h"

#include <vector>

namespace dlc {

/// Types of the values of a model's main graph, by name; those that inference
/// does not find are absent.
using TypeMap = llvm::StringMap<onnx::TypeProto>;

/// Runs onnx's shape inference over a copy of `model`.
TypeMap inferTypes(const onnx::ModelProto &model);

/// The names a node reads, those its subgraphs take from outside included.
std::vector<std::string> getReads(const onnx::NodeProto &node);

/// Keeps the nodes of `keep` and what they need. What they read of a node that
/// is gone becomes a graph input; outputs of such nodes are outputs no more.
/// The results that were read only by nodes that are gone become outputs when
/// `exposeCut`. False when nothing is left or a cut value has no tensor type.
bool keepNodes(onnx::ModelProto &model, const llvm::BitVector &keep,
               const TypeMap &types, bool exposeCut);

/// Keeps these outputs (by index) and the nodes they need. False when that is
/// none.
bool keepOutputs(onnx::ModelProto &model, const llvm::BitVector &keep);

/// Removes nodes, weights and inputs that no output needs.
void dropUnused(onnx::ModelProto &model);

/// Replaces the size `from` by the smaller `to` in inputs, weights (cut) and
/// weights that hold sizes, and forgets inferred shapes. False when nothing
/// changed.
bool replaceSize(onnx::ModelProto &model, int64_t from, int64_t to);

/// The sizes above 1 of inputs and weights, largest first.
std::vector<int64_t> getSizes(const onnx::ModelProto &model);

} // namespace dlc

#endif // DLC_TOOLS_DLC_REDUCE_MODEL_H
