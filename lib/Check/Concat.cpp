// Follows the kernel's expression at each coordinate of the joined axis: which
// load is it, and of which element?
#include "dlc/Check/Concat.h"

#include "mlir/IR/IntegerSet.h"

#include <map>

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

// Longer axes are not followed.
static constexpr int64_t kMostCoordinates = int64_t(1) << 20;

namespace {
class ConcatCheck {
public:
  ConcatCheck(KernelOp kernel, const ConcatForm &form)
      : kernel(kernel), form(form) {}

  Admission check() {
    if (prepare() && checkParts())
      checkPoints();
    if (reason.empty())
      return {};
    return {false, "kernel '" + kernel.getSymName().str() +
                       "' as its operands one after the other: " + reason};
  }

private:
  bool refuse(const Twine &why) {
    if (reason.empty())
      reason = why.str();
    return false;
  }
  static ArrayRef<int64_t> shapeOf(Type type) {
    return cast<RankedTensorType>(type).getShape();
  }
  bool prepare();
  bool checkParts();
  bool checkPoints();
  /// The value of `e` where the axis' coordinate is `at`; nothing where it
  /// depends on another one.
  std::optional<int64_t> evaluateAt(AffineExpr e, OperandRange coords,
                                    int64_t at);
  std::optional<bool> holds(LoadOp load, int64_t at);
  bool readsElement(LoadOp load, int64_t at, int64_t expected);

  KernelOp kernel;
  const ConcatForm &form;
  StageOp stage;
  std::string reason;
};
} // namespace

bool ConcatCheck::prepare() {
  std::vector<StageOp> stages = kernel.getStages();
  if (kernel.getOpaque() || stages.size() != 1 ||
      kernel.getResultTypes().size() != 1 ||
      stages[0].getFoldKind() != FoldKind::none || kernel.getNumSymbols())
    return refuse("it is not one expression of constant sizes");
  stage = stages[0];
  if (kernel.getResultValues()[0] != stage.getResult())
    return refuse("the result is no stage's");
  for (TypeRange types : {TypeRange(kernel.getArgumentTypes()),
                          TypeRange(kernel.getResultTypes())})
    for (Type type : types)
      if (!cast<RankedTensorType>(type).hasStaticShape())
        return refuse("a size is symbolic");
  return true;
}

bool ConcatCheck::checkParts() {
  ArrayRef<int64_t> whole = shapeOf(kernel.getResultTypes()[0]);
  if (form.axis >= whole.size() ||
      form.offsets.size() != kernel.getArgumentTypes().size())
    return refuse("there is no such axis, or an operand has no offset");
  if (whole[form.axis] > kMostCoordinates)
    return refuse("the axis is too long");
  // By the coordinate at which they begin; each where the one before it ends.
  std::map<int64_t, int64_t> parts;
  for (auto [type, offset] :
       llvm::zip_equal(kernel.getArgumentTypes(), form.offsets)) {
    ArrayRef<int64_t> shape = shapeOf(type);
    if (shape.size() != whole.size() ||
        cast<RankedTensorType>(type).getElementType() != stage.getElementType())
      return refuse("an operand has another rank or type");
    for (unsigned i = 0; i < shape.size(); ++i)
      if (i != form.axis && shape[i] != whole[i])
        return refuse("an operand has another size");
    if (!parts.try_emplace(offset, shape[form.axis]).second)
      return refuse("two operands begin at one place");
  }
  int64_t next = 0;
  for (auto [offset, size] : parts) {
    if (offset != next)
      return refuse("parts overlap or leave a gap at " + Twine(next));
    next += size;
  }
  if (next != whole[form.axis])
    return refuse("parts end at " + Twine(next) + " of " +
                  Twine(whole[form.axis]));
  return true;
}

bool ConcatCheck::checkPoints() {
  for (auto [k, type, offset] :
       llvm::enumerate(kernel.getArgumentTypes(), form.offsets))
    for (int64_t i = 0, end = shapeOf(type)[form.axis]; i < end; ++i) {
      int64_t at = offset + i;
      Value value = stage.getYielded();
      for (;;) {
        auto load = value.getDefiningOp<LoadOp>();
        if (!load)
          return refuse("at " + Twine(at) + " it computes something");
        auto inside = load.getGuard() ? holds(load, at) : std::optional(true);
        if (!inside)
          return refuse("a guard is not the axis' alone");
        if (!*inside) {
          value = load.getOther();
          continue;
        }
        auto operand = dyn_cast<BlockArgument>(load.getTensor());
        if (!operand || operand.getArgNumber() != k)
          return refuse("at " + Twine(at) + " it is another operand than " +
                        Twine(k));
        if (!readsElement(load, at, i))
          return refuse("at " + Twine(at) + " it is not element " + Twine(i) +
                        " of operand " + Twine(k));
        break;
      }
    }
  return true;
}

std::optional<int64_t>
ConcatCheck::evaluateAt(AffineExpr e, OperandRange coords, int64_t at) {
  SmallVector<AffineExpr> dims;
  MLIRContext *context = kernel.getContext();
  for (auto [i, coord] : llvm::enumerate(coords)) {
    auto argument = dyn_cast<BlockArgument>(coord);
    dims.push_back(argument && argument.getArgNumber() == form.axis
                       ? getAffineConstantExpr(at, context)
                       : getAffineDimExpr(i, context));
  }
  return constantValue(simplify(e.replaceDims(dims)));
}

std::optional<bool> ConcatCheck::holds(LoadOp load, int64_t at) {
  bool all = true;
  for (auto [e, isEqual] : llvm::zip(load.getGuard()->getConstraints(),
                                     load.getGuard()->getEqFlags())) {
    auto value = evaluateAt(e, load.getCoords(), at);
    if (!value)
      return std::nullopt;
    all &= isEqual ? *value == 0 : *value >= 0;
  }
  return all;
}

bool ConcatCheck::readsElement(LoadOp load, int64_t at, int64_t expected) {
  ArrayRef<int64_t> whole = shapeOf(kernel.getResultTypes()[0]);
  for (auto [i, e] : llvm::enumerate(load.getMap().getResults())) {
    if (i == form.axis) {
      if (evaluateAt(e, load.getCoords(), at) != expected)
        return false;
      continue;
    }
    if (whole[i] == 1)
      continue;
    auto dim = dyn_cast<AffineDimExpr>(simplify(e));
    auto argument =
        dim ? dyn_cast<BlockArgument>(load.getCoords()[dim.getPosition()])
            : BlockArgument();
    if (!argument || argument.getArgNumber() != i)
      return false;
  }
  return true;
}

Admission check::admitConcat(KernelOp kernel, const ConcatForm &form) {
  return ConcatCheck(kernel, form).check();
}
