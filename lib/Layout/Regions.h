// Which tensors get their channels last.
#ifndef DLC_LIB_LAYOUT_REGIONS_H
#define DLC_LIB_LAYOUT_REGIONS_H

#include "dlc/Layout/Layout.h"

#include "llvm/ADT/DenseSet.h"

namespace dlc::layout {

/// A load of an image by a sum that is a convolution.
struct ConvLoad {
  graph::StageOp sum;
  unsigned operand;
  unsigned result; ///< of the kernel, over the sum's domain
  /// What the other factor reads: constants in a convolution.
  llvm::SmallVector<unsigned> weights;
  /// Reduce axes that number channels of the image; none: depthwise.
  llvm::SmallVector<unsigned> channelAxes;
  /// The output has more than one pixel, or may have.
  bool hasPixels;
  /// The sum reads the image where it lies, with its channels last. Others copy
  /// it, runs of pixels being cheap then, and channels of a pixel not.
  bool isInPlace;
};

/// Axis i of what is new is axis permutation[i] of what was; empty: unchanged.
using Permutation = llvm::SmallVector<int64_t>;

/// An operand of a loop over channels that is walked by strides when channels
/// are innermost: the weights of a depthwise convolution.
struct ChannelTable {
  unsigned operand;
  unsigned result; ///< of the kernel, over the domain that has the channels
  Permutation permutation;
};

/// What a kernel says of the layouts of its operands and results.
struct KernelFacts {
  /// Operands that are read otherwise than point by point, and operands and
  /// results of other contractions: they keep their layout.
  llvm::DenseSet<unsigned> fixedOperands, fixedResults;
  /// Operand and result that want the same layout.
  llvm::SmallVector<std::pair<unsigned, unsigned>> links;
  llvm::SmallVector<ConvLoad> convs;
  /// Operand and result of a pooling: a fold of windows of more than a pixel.
  llvm::SmallVector<std::pair<unsigned, unsigned>> windows;
  llvm::SmallVector<ChannelTable> tables;
};
KernelFacts analyze(graph::KernelOp kernel);

/// A convolution with constant weights that would be worth relaying but for its
/// image or its result, whose layout is not the compiler's own affair: what a
/// copy of them costs is little beside it, and some sums read the image well as
/// it is. Or the last pooling of a region,
/// whose result is so much smaller than what it reads.
struct Boundary {
  graph::CallOp call;
  unsigned operand, result;
  bool copiesOperand, copiesResult;
};

/// Puts copies at the boundaries: calls of kernels that do nothing, so that
/// what lies between them can be relaid.
llvm::SmallVector<graph::CallOp>
insertCopies(mlir::ModuleOp module, llvm::ArrayRef<Boundary> boundaries);

/// A call, where `builder` stands, whose result is `value`; its kernel is
/// `value`'s own.
graph::CallOp copyTensor(mlir::ModuleOp module, mlir::SymbolTable &symbols,
                         mlir::OpBuilder &builder, mlir::Value value,
                         graph::CallOp near);

/// The results of calls to relay: in each region of tensors that are read and
/// written at the same points there is a convolution from one to another.
/// Inserts copies at boundaries; those that then change no layout are gone.
llvm::DenseSet<mlir::Value> chooseTensors(mlir::ModuleOp module,
                                          const LayoutOptions &options);

/// Whether convolutions read images of such elements as rows of channels.
bool readsRows(mlir::Type element, const LayoutOptions &options);

/// Whether vectors along the channels of an image would be part empty.
bool isNarrow(mlir::Type type, unsigned lanes);

/// Those of `chosen` that are stored as float32: 16-bit floats that a
/// convolution reads by addresses, where each would be widened at every use,
/// and what is moved from or to such a tensor.
llvm::DenseSet<mlir::Value>
chooseWidened(mlir::ModuleOp module, const llvm::DenseSet<mlir::Value> &chosen,
              const LayoutOptions &options);

/// Copies images of few channels that convolutions read tap by tap, a model's
/// inputs mostly, to float32; the copies are `widened`. Widening every tap's
/// elements takes longer.
void copyNarrowImages(mlir::ModuleOp module,
                      const llvm::DenseSet<mlir::Value> &chosen,
                      llvm::DenseSet<mlir::Value> &widened,
                      const LayoutOptions &options);

/// Stores these operands and results of a kernel as float32. Results are
/// rounded as before and then widened, which is exact.
void widenKernel(graph::KernelOp kernel, llvm::ArrayRef<bool> operands,
                 llvm::ArrayRef<bool> results);

/// Channels last: 0, 2, ..., rank - 1, 1.
Permutation channelsLast(unsigned rank);

template <typename T>
llvm::SmallVector<T> permute(llvm::ArrayRef<T> list,
                             llvm::ArrayRef<int64_t> permutation) {
  if (permutation.empty())
    return llvm::SmallVector<T>(list);
  return llvm::map_to_vector(permutation, [&](int64_t i) { return list[i]; });
}
mlir::RankedTensorType permuteType(mlir::Type type,
                                   llvm::ArrayRef<int64_t> permutation);
/// With elements of float32.
mlir::RankedTensorType widenType(mlir::Type type);

/// How an operand or a result of a kernel is stored.
struct TensorLayout {
  Permutation permutation;
  bool isWide = false; ///< 16-bit floats as float32

  bool operator<(const TensorLayout &other) const {
    return std::tie(permutation, isWide) <
           std::tie(other.permutation, other.isWide);
  }
};

/// A copy of `kernel` named `name` with these operands and results relaid, and
/// its claim. Operands other than tables are permuted by channelsLast.
graph::KernelOp relayKernel(graph::KernelOp kernel, llvm::StringRef name,
                            llvm::ArrayRef<TensorLayout> operands,
                            llvm::ArrayRef<TensorLayout> results);

/// The elements of a constant in another order; null when they are of no whole
/// bytes, all equal, or more than a copy should cost.
mlir::ElementsAttr permuteConstant(mlir::ElementsAttr value,
                                   llvm::ArrayRef<int64_t> permutation);

} // namespace dlc::layout

#endif // DLC_LIB_LAYOUT_REGIONS_H
