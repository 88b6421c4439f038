// Which call of a library a kernel, or its sum, is.
#include "dlc/Codegen/CUDA/CudaLibraryCall.h"

#include "LibraryForms.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace dlc;

/// Row-major over outer axes, rows and columns, in this order.
static bool isInOrder(const ContractionSpec &spec) {
  int64_t wanted = 1;
  for (ArrayRef<unsigned> axes :
       {ArrayRef<unsigned>(spec.columns), ArrayRef<unsigned>(spec.rows),
        ArrayRef<unsigned>(spec.outer)})
    for (unsigned axis : llvm::reverse(axes)) {
      auto extent = graph::constantValue(spec.space.extents[axis]),
           stride = graph::constantValue(spec.resultStrides[axis]);
      if (!extent || !stride || (*extent > 1 && *stride != wanted))
        return false;
      wanted *= *extent;
    }
  return true;
}

/// The kernel's only result is the sum, perhaps converted, in its own order.
static bool yieldsSum(const ContractionSpec &spec) {
  if (spec.results.size() != 1 || !isInOrder(spec))
    return false;
  graph::StageOp result = spec.results[0], sum = spec.stage;
  if (result == sum)
    return true;
  Value value = result.getYielded();
  if (auto cast = value.getDefiningOp<graph::CastOp>())
    value = cast.getValue();
  auto load = value.getDefiningOp<graph::LoadOp>();
  return load && load.getTensor() == sum->getResult(0) && !load.getGuard() &&
         load.getMap().isIdentity() &&
         llvm::equal(load.getCoords(), result.getBlock()->getArguments());
}

/// The kernel with one of its stages as the only result. The caller erases it.
static graph::KernelOp copyAlone(graph::KernelOp kernel, unsigned stage) {
  auto copy = cast<graph::KernelOp>(kernel->clone());
  std::vector<graph::StageOp> stages = copy.getStages();
  Value sum = stages[stage].getResult();
  Operation *end = copy.getBody().front().getTerminator();
  end->setOperands(sum);
  copy.setFunctionType(FunctionType::get(
      kernel.getContext(), kernel.getArgumentTypes(), sum.getType()));
  copy.removeResAttrsAttr();
  for (graph::StageOp other : llvm::reverse(stages))
    if (other.use_empty())
      other.erase();
  return copy;
}

/// A product, else a convolution.
static FailureOr<dlc_device_call> describe(const ContractionSpec &spec,
                                           bool tf32, std::string &reason) {
  dlc_device_call call = {};
  if (auto product = describeProduct(spec, tf32, reason); succeeded(product)) {
    call.kind = DLC_DEVICE_PRODUCT;
    call.as.product = *product;
    return call;
  }
  std::string why;
  auto convolution = describeConvolution(spec, tf32, why);
  if (failed(convolution)) {
    reason += "; as a convolution: " + why;
    return failure();
  }
  call.kind = DLC_DEVICE_CONVOLUTION;
  call.as.convolution = *convolution;
  call.as.convolution.workspace_bytes = kLibraryWorkspaceBytes;
  return call;
}

FailureOr<CudaLibraryCall>
dlc::findLibraryCall(graph::KernelOp kernel, const CudaCodegenOptions &options,
                     std::string &reason) {
  CudaLibraryCall found;
  if (options.strict) {
    reason = "sums keep their order";
    return failure();
  }
  auto whole = classifyContraction(kernel, reason);
  if (succeeded(whole) && yieldsSum(*whole)) {
    auto call = describe(*whole, options.tf32, reason);
    if (failed(call))
      return failure();
    found.sum = whole->stage;
    found.isAlone = true;
    found.call = *call;
    return found;
  }
  reason = "it has no sum of products";
  std::vector<graph::StageOp> stages = kernel.getStages();
  for (auto [i, stage] : llvm::enumerate(stages)) {
    if (stage.getFoldKind() != graph::FoldKind::add)
      continue;
    graph::KernelOp alone = copyAlone(kernel, unsigned(i));
    auto call = [&]() -> FailureOr<dlc_device_call> {
      auto spec = classifyContraction(alone, reason);
      if (failed(spec))
        return failure();
      if (!isInOrder(*spec)) {
        reason = "its sums lie in another order";
        return failure();
      }
      return describe(*spec, options.tf32, reason);
    }();
    alone->erase();
    if (failed(call))
      continue;
    if (found.sum) {
      reason = "it has more than one sum of products";
      return failure();
    }
    found.sum = stage;
    found.call = *call;
  }
  if (!found.sum)
    return failure();
  return found;
}

int64_t CudaLibraryCall::getResultElements() const {
  if (call.kind == DLC_DEVICE_PRODUCT)
    return call.as.product.batch * call.as.product.rows *
           call.as.product.columns;
  const dlc_device_convolution &c = call.as.convolution;
  return c.size[0] * c.filters * c.places[0] * c.places[1];
}

dlc_device_type CudaLibraryCall::getResultType() const {
  return dlc_device_type(call.kind == DLC_DEVICE_PRODUCT
                             ? call.as.product.result_type
                             : call.as.convolution.type);
}

void CudaLibraryCall::setPlaces(int64_t result, int64_t workspace) {
  if (call.kind == DLC_DEVICE_PRODUCT) {
    call.as.product.result = result;
    return;
  }
  call.as.convolution.result = result;
  call.as.convolution.workspace = workspace;
}

StringRef dlc::getLibraryKnob(int64_t callKind) {
  return callKind == DLC_DEVICE_PRODUCT ? "cublas" : "cudnn";
}
