// Which constants of bytes have few bits: code generation packs two of their
// numbers into a byte.
#include "dlc/Codegen/CPU/ConstantBits.h"

#include "dlc/Driver/FormedKernels.h"
#include "dlc/Program/Passes.h"
#include "dlc/Program/Weights.h"

using namespace mlir;
using namespace dlc;

// 4 where all numbers of a constant of bytes have so many bits, with their sign
// where the type has one; else 8.
static int8_t bitsOfConstant(Value argument) {
  constexpr int8_t few = 4, all = 8;
  auto constant = graph::getViewed(argument).getDefiningOp<graph::ConstantOp>();
  if (!constant)
    return all;
  Type element = constant.getValue().getElementType();
  if (!element.isInteger(8))
    return all;
  std::vector<char> storage;
  int sign = graph::isUnsigned(element) ? 0 : 1 << (few - 1);
  for (char byte : getConstantBytes(constant.getValue(), storage)) {
    int number = sign ? static_cast<signed char>(byte)
                      : static_cast<unsigned char>(byte);
    if (number + sign < 0 || number + sign >= 1 << few)
      return all;
  }
  return few;
}

void dlc::markConstantBits(ModuleOp module) {
  llvm::StringMap<SmallVector<int8_t>> ofAllCalls;
  module.walk([&](graph::CallOp call) {
    auto &bits = ofAllCalls[call.getCallee()];
    bits.resize(call.getArgs().size());
    for (auto [i, arg] : llvm::enumerate(call.getArgs()))
      bits[i] = std::max(bits[i], bitsOfConstant(arg));
  });
  for (auto kernel : module.getOps<graph::KernelOp>()) {
    ArrayRef<int8_t> bits = ofAllCalls[kernel.getSymName()];
    if (llvm::any_of(bits, [](int8_t some) { return some < 8; }))
      kernel->setAttr(kConstantBits,
                      DenseI8ArrayAttr::get(kernel.getContext(), bits));
    else
      kernel->removeAttr(kConstantBits); // of a file: its constants say
  }
}
