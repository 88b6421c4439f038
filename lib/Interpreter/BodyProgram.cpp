// Translation of a stage's body: index maps get their sizes, scalar functions
// their loops, and reads that can be checked once are checked here.
#include "BodyProgram.h"

#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::interp;

void ErrorSink::report(Location where, const Twine &text) {
  std::lock_guard<std::mutex> lock(mutex);
  if (found)
    return;
  location = where;
  message = text.str();
  found = true;
}

LogicalResult ErrorSink::emit() const {
  if (!found)
    return success();
  return emitError(*location) << message;
}

// The operations a value is computed by, in order.
static void collect(Value value, llvm::SetVector<Operation *> &operations) {
  Operation *op = value.getDefiningOp();
  // A load's coordinates count only where its map or guard uses them.
  if (!op || !isa<graph::StageOp>(op->getParentOp()) || operations.contains(op))
    return;
  if (auto load = dyn_cast<graph::LoadOp>(op)) {
    for (auto [i, coord] : llvm::enumerate(load.getCoords())) {
      bool used = load.getMap().isFunctionOfDim(i);
      if (auto guard = load.getGuard())
        used |= llvm::any_of(guard->getConstraints(), [&](AffineExpr e) {
          return e.isFunctionOfDim(i);
        });
      if (used)
        collect(coord, operations);
    }
    if (load.getOther())
      collect(load.getOther(), operations);
  } else if (auto inside = dyn_cast<graph::InsideOp>(op)) {
    for (auto [i, coord] : llvm::enumerate(inside.getCoords()))
      if (llvm::any_of(inside.getSet().getConstraints(),
                       [i = i](AffineExpr e) { return e.isFunctionOfDim(i); }))
        collect(coord, operations);
  } else if (!isa<graph::CoordOp>(op)) {
    for (Value operand : op->getOperands())
      collect(operand, operations);
  } else {
    auto coord = cast<graph::CoordOp>(op);
    for (auto [i, operand] : llvm::enumerate(coord.getCoords()))
      if (coord.getMap().isFunctionOfDim(i))
        collect(operand, operations);
  }
  operations.insert(op);
}

BodyProgram::BodyProgram(graph::StageOp stage, Value rootValue,
                         ArrayRef<int64_t> symbols, ArrayRef<int64_t> extents,
                         int inner, TensorLookup tensorOf,
                         const MathTable &math, ErrorSink &errors)
    : extents(extents), inner(inner), math(math), errors(errors) {
  for (int64_t s : symbols)
    symbolConstants.push_back(getAffineConstantExpr(s, stage.getContext()));
  llvm::SetVector<Operation *> operations;
  collect(rootValue, operations);
  if (isa<BlockArgument>(rootValue)) {
    errors.report(stage.getLoc(),
                  "a stage cannot yield a coordinate of type index");
    return;
  }
  for (Operation *op : operations)
    if (!add(op, tensorOf))
      return;
  root = numbers.lookup(rootValue);
}

// Puts sizes for symbols, and for each coordinate operand the axis or data
// coordinate it is.
AffineExpr BodyProgram::bind(AffineExpr expr, OperandRange coords) const {
  SmallVector<AffineExpr> dims;
  for (Value coord : coords) {
    unsigned position = 0;
    if (auto arg = dyn_cast<BlockArgument>(coord))
      position = arg.getArgNumber();
    else if (auto it = dataCoordNumbers.find(coord);
             it != dataCoordNumbers.end())
      position = extents.size() + it->second;
    dims.push_back(getAffineDimExpr(position, expr.getContext()));
  }
  return expr.replaceDimsAndSymbols(dims, symbolConstants);
}

std::vector<BodyProgram::Guard> BodyProgram::bind(IntegerSet set,
                                                  OperandRange coords) const {
  std::vector<Guard> guards;
  for (auto [constraint, isEquality] :
       llvm::zip(set.getConstraints(), set.getEqFlags())) {
    IndexExpr expr(bind(constraint, coords), extents.size());
    std::optional<int64_t> step = expr.getStep(inner);
    guards.push_back({std::move(expr), isEquality, step});
  }
  return guards;
}

bool BodyProgram::addLoad(graph::LoadOp op, Instruction &instruction,
                          TensorLookup tensorOf) {
  auto load = std::make_unique<Load>();
  load->tensor = tensorOf(op.getTensor());
  ArrayRef<int64_t> shape = load->tensor.getShape();
  load->strides.assign(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;)
    load->strides[i - 1] = load->strides[i] * shape[i];
  MLIRContext *context = op.getContext();
  AffineExpr offset = getAffineConstantExpr(0, context);
  bool isEmpty = llvm::is_contained(extents, 0);
  for (auto [i, e] : llvm::enumerate(op.getMap().getResults())) {
    AffineExpr bound = bind(e, op.getCoords());
    load->index.emplace_back(bound, extents.size());
    offset = offset + bound * load->strides[i];
    // Without a guard every point reads: the whole box must lie inside.
    auto range = op.getGuard() || isEmpty
                     ? std::nullopt
                     : load->index.back().getRange(extents);
    if (range && (range->first < 0 || range->second >= shape[i])) {
      errors.report(op.getLoc(),
                    "kernel reads outside its operand: coordinate " + Twine(i) +
                        " takes " + Twine(range->first) + ".." +
                        Twine(range->second) + " of " + describe(load->tensor));
      return false;
    }
  }
  load->offset = IndexExpr(offset, extents.size());
  load->step = load->offset.getStep(inner);
  load->byRuns = load->step.has_value();
  if (auto guard = op.getGuard())
    load->guards = bind(*guard, op.getCoords());
  for (const Guard &guard : load->guards)
    load->byRuns &= guard.step && (!guard.isEquality || *guard.step == 0);
  if (op.getOther())
    load->other = numbers.lookup(op.getOther());
  instruction.load = std::move(load);
  return true;
}

bool BodyProgram::add(Operation *op, TensorLookup tensorOf) {
  Instruction instruction;
  instruction.op = op;
  std::optional<LaneType> type = getLaneType(op->getResult(0).getType());
  auto fail = [&](const Twine &text) {
    errors.report(op->getLoc(), text);
    return false;
  };
  auto spell = [](Type t) {
    std::string text;
    llvm::raw_string_ostream(text) << t;
    return text;
  };
  if (!type)
    return fail("the interpreter does not compute with elements of type " +
                spell(op->getResult(0).getType()));
  instruction.type = *type;
  bool ok =
      llvm::TypeSwitch<Operation *, bool>(op)
          .Case<graph::LoadOp>([&](auto load) {
            instruction.kind = Kind::Load;
            return addLoad(load, instruction, tensorOf);
          })
          .Case<graph::ApplyOp>([&](auto apply) {
            instruction.kind = Kind::Apply;
            for (Value v : apply.getArgs())
              instruction.args.push_back(numbers.lookup(v));
            // Predicates and comparisons are chosen by their operands' type.
            unsigned decider = apply.getFn() == graph::ScalarFn::select ? 1 : 0;
            LaneType first = instructions[instruction.args[decider]].type;
            LaneType second = instructions[instruction.args.back()].type;
            instruction.apply = getApplyFn(apply.getFn(), first, second);
            return instruction.apply
                       ? true
                       : fail("'" + graph::stringifyScalarFn(apply.getFn()) +
                              "' has no meaning on " +
                              spell(apply.getArgs()[decider].getType()));
          })
          .Case<graph::CastOp>([&](auto cast) {
            instruction.kind = Kind::Cast;
            instruction.args.push_back(numbers.lookup(cast.getValue()));
            instruction.cast = getCastFn(instructions[instruction.args[0]].type,
                                         *type, cast.getSaturate());
            return true;
          })
          .Case<graph::LiteralOp>([&](auto) {
            instruction.kind = Kind::Literal;
            return true;
          })
          .Case<graph::CoordOp>([&](auto coord) {
            instruction.kind = Kind::Coord;
            instruction.index =
                IndexExpr(bind(coord.getMap().getResult(0), coord.getCoords()),
                          extents.size());
            return true;
          })
          .Case<graph::InsideOp>([&](auto inside) {
            instruction.kind = Kind::Inside;
            instruction.inside = bind(inside.getSet(), inside.getCoords());
            return true;
          })
          .Case<graph::ToIndexOp>([&](auto toIndex) {
            instruction.kind = Kind::ToIndex;
            instruction.args.push_back(numbers.lookup(toIndex.getValue()));
            AffineExpr size = toIndex.getSize().getDims()[0];
            instruction.size =
                graph::evaluate(size.replaceSymbols(symbolConstants), {});
            dataCoordNumbers[toIndex.getResult()] = dataCoords.size();
            dataCoords.push_back(instructions.size());
            return true;
          })
          .Default([&](Operation *) {
            return fail(
                "the interpreter has no meaning for this operation in a stage");
          });
  if (!ok)
    return false;
  numbers[op->getResult(0)] = instructions.size();
  instructions.push_back(std::move(instruction));
  return true;
}
