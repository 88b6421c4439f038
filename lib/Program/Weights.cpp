// Constants: layouts, sharing and places. Nothing here copies a whole model:
// bytes are read from where they are (mostly the mapped model file), one piece
// at a time.
#include "dlc/Program/Weights.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/xxhash.h"

#include <cstring>

using namespace mlir;
using namespace dlc;
using namespace dlc::program;

const OperandPacking *KernelCode::getPacking(unsigned operand) const {
  for (const OperandPacking &packing : packings)
    if (packing.operand == operand)
      return &packing;
  return nullptr;
}

//===----------------------------------------------------------------------===//
// Code and layouts
//===----------------------------------------------------------------------===//

static void completeKernel(KernelOp kernel, const KernelCode &code) {
  Builder builder(kernel.getContext());
  SmallVector<StringRef> symbols;
  SmallVector<AffineExpr> tasks;
  for (const CpuPhase &phase : code.phases) {
    symbols.push_back(phase.symbol);
    tasks.push_back(phase.numTasks);
  }
  unsigned numSymbols = kernel.getNumSymbols();
  kernel.setPhasesAttr(builder.getStrArrayAttr(symbols));
  kernel.setTasksAttr(AffineMapAttr::get(
      AffineMap::get(0, numSymbols, tasks, kernel.getContext())));
  if (code.scratchBytes)
    kernel.setScratchAttr(makeSize(code.scratchBytes, numSymbols));
  kernel.setNestAttr(builder.getStringAttr(code.nest));
  SmallVector<int64_t> inPlace;
  for (graph::InPlacePair pair : code.inPlace)
    inPlace.append({pair.operand, pair.result});
  if (!inPlace.empty())
    kernel.setInPlaceAttr(builder.getDenseI64ArrayAttr(inPlace));
  if (code.threads.empty())
    return;
  kernel.setThreadsAttr(builder.getDenseI64ArrayAttr(code.threads));
  if (llvm::any_of(code.shared, [](int64_t bytes) { return bytes != 0; }))
    kernel.setSharedAttr(builder.getDenseI64ArrayAttr(code.shared));
  kernel.setBuffersAttr(AffineMapAttr::get(
      AffineMap::get(0, numSymbols, code.buffers, kernel.getContext())));
  AffineExpr total = builder.getAffineConstantExpr(0);
  for (AffineExpr bytes : code.buffers)
    total = total + bytes.ceilDiv(kAlignment) * kAlignment;
  kernel.setScratchAttr(makeSize(graph::simplify(total), numSymbols));
}

void dlc::attachKernelCode(ModuleOp module, const KernelCodeMap &code) {
  for (auto kernel : module.getOps<KernelOp>())
    if (auto it = code.find(kernel.getSymName()); it != code.end())
      completeKernel(kernel, it->second);

  // (constant, layout) -> the constant in this layout
  llvm::DenseMap<std::pair<Operation *, StringAttr>, Value> packed;
  module.walk([&](program::CallOp call) {
    auto it = code.find(call.getCallee());
    if (it == code.end())
      return;
    for (OpOperand &arg : call.getArgsMutable()) {
      auto constant = arg.get().getDefiningOp<program::ConstantOp>();
      const OperandPacking *packing =
          it->second.getPacking(arg.getOperandNumber());
      if (!packing || !constant)
        continue;
      OpBuilder builder(constant);
      StringAttr layout = builder.getStringAttr(packing->layout);
      Value &value = packed[{constant, layout}];
      if (!value)
        value = program::ConstantOp::create(
            builder, constant.getLoc(), constant.getType(), constant.getValue(),
            layout, builder.getI64IntegerAttr(packing->bytes), IntegerAttr());
      arg.set(value);
    }
  });
  module.walk([](program::ConstantOp constant) {
    if (constant->use_empty())
      constant.erase();
  });
}

//===----------------------------------------------------------------------===//
// Bytes
//===----------------------------------------------------------------------===//

ArrayRef<char> dlc::getConstantBytes(ElementsAttr value,
                                     std::vector<char> &storage) {
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(value))
    return resource.getRawHandle().getBlob()->getData();
  auto dense = cast<DenseElementsAttr>(value);
  if (dense.getElementType().isInteger(1)) {
    storage.clear();
    for (bool bit : dense.getValues<bool>())
      storage.push_back(bit);
    return storage;
  }
  ArrayRef<char> raw = dense.getRawData();
  if (!dense.isSplat())
    return raw;
  storage.clear();
  storage.reserve(raw.size() * dense.getNumElements());
  for (int64_t i = 0, n = dense.getNumElements(); i < n; ++i)
    storage.insert(storage.end(), raw.begin(), raw.end());
  return storage;
}

void WeightsPiece::emit(llvm::function_ref<void(ArrayRef<char>)> write) const {
  std::vector<char> storage;
  ArrayRef<char> raw = getConstantBytes(value, storage);
  if (!packing)
    return write(raw);
  // Aligned, because packing may use vector stores.
  std::vector<char> buffer(bytes + kAlignment);
  char *start = reinterpret_cast<char *>(
      llvm::alignTo(reinterpret_cast<uintptr_t>(buffer.data()), kAlignment));
  packing->pack(raw, MutableArrayRef<char>(start, bytes));
  write(ArrayRef<char>(start, bytes));
}

//===----------------------------------------------------------------------===//
// Places
//===----------------------------------------------------------------------===//

// The packing that made a constant's layout: any of its calls knows it.
static const OperandPacking *findPacking(program::ConstantOp constant,
                                         const KernelCodeMap &code) {
  if (!constant.getLayout())
    return nullptr;
  for (OpOperand &use : constant->getUses())
    if (auto call = dyn_cast<program::CallOp>(use.getOwner()))
      if (auto it = code.find(call.getCallee()); it != code.end())
        if (const OperandPacking *packing =
                it->second.getPacking(use.getOperandNumber()))
          return packing;
  llvm_unreachable(
      "a constant with a layout is read by a kernel that asked for it");
}

static int64_t getByteSize(ElementsAttr value) {
  return value.getNumElements() * graph::elementBytes(value.getElementType());
}

namespace {
// Finds constants of equal bytes. Only constants of one size and layout are
// compared.
class Sharing {
public:
  /// An earlier constant with these bytes, or `constant` itself.
  program::ConstantOp find(program::ConstantOp constant) {
    StringRef layout = constant.getLayout().value_or("");
    auto &candidates = bySize[{getByteSize(constant.getValue()), layout}];
    for (program::ConstantOp other : candidates)
      if (other.getValue() == constant.getValue() ||
          (getHash(other) == getHash(constant) &&
           haveEqualBytes(other, constant)))
        return other;
    candidates.push_back(constant);
    return constant;
  }

private:
  uint64_t getHash(program::ConstantOp constant) {
    auto [it, isNew] = hashes.try_emplace(constant, 0);
    if (isNew) {
      std::vector<char> storage;
      ArrayRef<char> bytes = getConstantBytes(constant.getValue(), storage);
      it->second = llvm::xxh3_64bits(ArrayRef<uint8_t>(
          reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()));
    }
    return it->second;
  }

  static bool haveEqualBytes(program::ConstantOp a, program::ConstantOp b) {
    // A packed form may depend on the shape too.
    if (a.getLayout() &&
        a.getValue().getShapedType() != b.getValue().getShapedType())
      return false;
    std::vector<char> storageA, storageB;
    return getConstantBytes(a.getValue(), storageA) ==
           getConstantBytes(b.getValue(), storageB);
  }

  std::map<std::pair<int64_t, StringRef>, SmallVector<program::ConstantOp, 1>>
      bySize;
  llvm::DenseMap<Operation *, uint64_t> hashes;
};
} // namespace

std::vector<WeightsPiece> dlc::layOutWeights(ModelOp model,
                                             const KernelCodeMap &code) {
  std::vector<WeightsPiece> pieces;
  Sharing sharing;
  int64_t end = 0;
  for (auto constant : model.getAll<program::ConstantOp>()) {
    program::ConstantOp first = sharing.find(constant);
    if (first != constant) {
      constant.setOffset(*first.getOffset());
      continue;
    }
    WeightsPiece piece;
    piece.value = constant.getValue();
    piece.packing = findPacking(constant, code);
    piece.bytes =
        piece.packing ? piece.packing->bytes : getByteSize(piece.value);
    piece.offset = llvm::alignTo(end, kAlignment);
    end = piece.offset + piece.bytes;
    constant.setOffset(piece.offset);
    pieces.push_back(piece);
  }
  return pieces;
}
