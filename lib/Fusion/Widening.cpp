// Numbers that are widened for a product: the cast of a byte, less a zero
// point, or the cast of a bf16. The product takes them as they are, so that the
// widening belongs to it: to each product that reads it.
#include "dlc/Fusion/Profitability.h"
#include "dlc/Schedule/ContractionSpec.h"
#include "dlc/Schedule/NarrowNumbers.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;

namespace {
/// What a kernel does on the way from narrow numbers to a product.
enum class Role {
  None,
  Widens,  ///< one cast, perhaps less a zero point
  Shifts,  ///< a zero point is subtracted from what was widened before
  Products ///< sums of products
};
} // namespace

static Role roleOf(graph::KernelOp kernel) {
  if (!kernel || kernel.getOpaque())
    return Role::None;
  auto stages = llvm::to_vector(kernel.getStages());
  if (llvm::any_of(stages, [](graph::StageOp stage) {
        return stage.getFoldKind() == graph::FoldKind::add &&
               isContraction(stage);
      }))
    return Role::Products;
  if (stages.size() != 1 || stages[0].getFoldKind() != graph::FoldKind::none)
    return Role::None;
  Value value = stages[0].getYielded();
  bool isShifted = false;
  if (auto apply = value.getDefiningOp<graph::ApplyOp>();
      apply && apply.getFn() == graph::ScalarFn::sub &&
      apply.getType().isInteger(32)) {
    value = apply.getArgs()[0];
    isShifted = true;
    if (value.getDefiningOp<graph::LoadOp>())
      return Role::Shifts;
  }
  auto cast = value.getDefiningOp<graph::CastOp>();
  if (!cast || !cast.getValue().getDefiningOp<graph::LoadOp>())
    return Role::None;
  return isWidening(cast.getValue().getType(), cast.getType(), isShifted)
             ? Role::Widens
             : Role::None;
}

static Role roleOf(Operation *op) {
  auto call = dyn_cast_or_null<graph::CallOp>(op);
  if (!call)
    return Role::None;
  return roleOf(SymbolTable::lookupNearestSymbolFrom<graph::KernelOp>(
      call, call.getCalleeAttr()));
}

bool fusion::belongsToProducts(Value value) {
  return !value.use_empty() && llvm::all_of(value.getUsers(), [](auto *user) {
    Role role = roleOf(user);
    return role == Role::Products || role == Role::Shifts;
  });
}

void fusion::splitWidenings(func::FuncOp main) {
  SymbolTable kernels(main->getParentOfType<ModuleOp>());
  llvm::DenseMap<Attribute, Role> roles;
  auto roleAt = [&](Operation *op) {
    auto call = dyn_cast_or_null<graph::CallOp>(op);
    if (!call)
      return Role::None;
    auto [entry, isNew] = roles.try_emplace(call.getCalleeAttr(), Role::None);
    if (isNew)
      if (auto kernel = kernels.lookup<graph::KernelOp>(call.getCallee()))
        entry->second = roleOf(kernel);
    return entry->second;
  };
  // Users come first, so that what they read is split after them.
  for (Operation &op :
       llvm::make_early_inc_range(llvm::reverse(main.getBody().front()))) {
    Role role = roleAt(&op);
    if (op.getNumResults() != 1 || op.getResult(0).hasOneUse() ||
        !(role == Role::Widens ||
          (role == Role::Shifts &&
           roleAt(op.getOperand(0).getDefiningOp()) == Role::Widens)))
      continue;
    Value value = op.getResult(0);
    SmallVector<Operation *> users;
    for (Operation *user : value.getUsers())
      if (!llvm::is_contained(users, user))
        users.push_back(user);
    bool all = llvm::all_of(users, [&](Operation *user) {
      Role reader = roleAt(user);
      return reader == Role::Products ||
             (role == Role::Widens && reader == Role::Shifts);
    });
    if (!all)
      continue;
    for (Operation *user : ArrayRef(users).drop_front()) {
      OpBuilder builder(user);
      Operation *copy = builder.clone(op);
      user->replaceUsesOfWith(value, copy->getResult(0));
    }
  }
}
