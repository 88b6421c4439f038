// The phases of a kernel. Tasks cut the outer axes into runs of rows, and a
// long innermost axis into pieces; what happens in a row is LoopStage's.
//
// A kernel with intermediate stages keeps them a row at a time in the worker's
// scratch, where a row is what all its stages share as leading axes.
#include "dlc/Codegen/CPU/LoopNest.h"

#include "LoopStage.h"
#include "LoopTasks.h"
#include "dlc/Codegen/Common/KernelFunction.h"
#include "dlc/Dialect/Graph/IR/Laws.h"
#include "dlc/Dialect/Graph/IR/Placement.h"
#include "dlc/Schedule/Schedule.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;
using graph::StageOp;

//===----------------------------------------------------------------------===//
// Phases
//===----------------------------------------------------------------------===//

namespace {
class KernelEmitter {
public:
  KernelEmitter(graph::KernelOp kernel, const CpuTarget &target,
                const CpuCodegenOptions &options, const LoopSchedule &schedule)
      : kernel(kernel), target(target), options(options), schedule(schedule),
        rowPlan(planRows(kernel)), places(kernel, rowPlan) {}

  CpuKernel emit();

private:
  /// The phase's task function. Units of several stages share rows, the
  /// leading `rows` axes.
  void emitPhase(MutableArrayRef<LoopUnit> units, StringRef symbol);
  /// The kept stages' buffers for row `local` of the rows computed at once.
  SmallVector<Value> keptBuffers(KernelFunctionBuilder &function,
                                 IndexEmitter &index, Value local);
  int64_t chooseRowBlock(ArrayRef<LoopUnit> units);
  bool maskedMemory();
  bool isStreamed(unsigned result);
  graph::ComputeOrder orderOf(ArrayRef<LoopUnit> units, bool byRows);
  void findInPlace(ArrayRef<LoopUnit> units);
  void keepInResults(MutableArrayRef<LoopUnit> units);

  graph::KernelOp kernel;
  const CpuTarget &target;
  const CpuCodegenOptions &options;
  const LoopSchedule &schedule;
  RowPlan rowPlan;
  LoopBuffers places;
  CpuKernel result;
  int64_t rowBlock = 1;          ///< rows computed at once
  SmallVector<Type> bufferTypes; ///< of operands and results
  /// By stage of rowPlan.kept: the result in whose rows it lies.
  llvm::SmallDenseMap<unsigned, unsigned> keptInResults;
};
} // namespace

/// Whether loads and stores of some lanes are cheap: of all types with AVX-512,
/// of those of 32 and 64 bits with AVX2 (vmaskmov).
bool KernelEmitter::maskedMemory() {
  if (ScalarOptions::get(target, options.strict).maskedMemory)
    return true;
  auto isWide = [](Type type) {
    unsigned bits = type.getIntOrFloatBitWidth();
    return bits == 32 || bits == 64;
  };
  return target.desc().arch == "x86" && target.hasFeature("avx2") &&
         llvm::all_of(bufferTypes, isWide) &&
         llvm::all_of(rowPlan.kept, [&](StageOp stage) {
           return isWide(ScalarEmitter::storageType(stage.getElementType()));
         });
}

// Bytes of short rows that are computed at once.
static constexpr int64_t rowBlockBytes = 8 << 10, maxRowBlock = 16;

/// Short rows are computed several at a time, stage by stage: the stages of one
/// row wait for each other, those of several rows do not. What stages read
/// again should still lie in the first-level cache then.
int64_t KernelEmitter::chooseRowBlock(ArrayRef<LoopUnit> units) {
  auto bytes = graph::constantValue(rowPlan.rowBytes);
  if (rowPlan.mode != RowPlan::Rows || rowPlan.kept.empty() || !bytes ||
      rowPlan.rowRank == 0)
    return 1;
  int64_t block = std::clamp<int64_t>(
      rowBlockBytes / std::max<int64_t>(*bytes, 1), 1, maxRowBlock);
  llvm::SmallDenseMap<unsigned, unsigned> readers;
  llvm::SmallDenseMap<unsigned, int64_t> rowBytes;
  for (const LoopUnit &unit : units) {
    llvm::SmallDenseSet<unsigned> seen;
    for (unsigned id : unit.expr.reachable(unit.expr.root)) {
      const LoopNode &node = unit.expr.nodes[id];
      if (node.kind != LoopNode::Load || node.buffer >= places.firstResult)
        continue;
      auto coefficient = node.index.coefficient(rowPlan.rowRank - 1);
      auto step = coefficient ? coefficient->constant() : std::nullopt;
      if (!step)
        continue;
      int64_t &most = rowBytes[node.buffer];
      most = std::max(most, std::abs(*step) * graph::elementBytes(node.type));
      if (seen.insert(node.buffer).second)
        ++readers[node.buffer];
    }
  }
  int64_t readAgain = 0, all = 0;
  for (auto [buffer, size] : rowBytes) {
    all += size;
    readAgain += readers[buffer] > 1 ? size : 0;
  }
  if (readAgain)
    block =
        std::min(block, std::max<int64_t>(1, target.desc().l1Bytes / 2 / all));
  return block;
}

/// Whether a result is stored past the caches, which need not read its lines
/// first then: nobody reads it there, and the kernel moves twice what the last
/// level holds. With less, part of the lines is still there from the run
/// before, and plain stores are as fast or faster. A target that stands for
/// many CPUs names the smallest last level: less than 64 MiB never are. Rows
/// that lie there first are in the caches already.
bool KernelEmitter::isStreamed(unsigned result) {
  const TargetDesc &desc = target.desc();
  for (auto [stage, buffer] : keptInResults)
    if (buffer == places.firstResult + result)
      return false;
  if (desc.arch != "x86" || !options.isLeaving(result) ||
      graph::hasPitches(kernel))
    return false;
  int64_t bytes = 0;
  for (TypeRange types : {TypeRange(kernel.getArgumentTypes()),
                          TypeRange(kernel.getResultTypes())})
    for (Type type : types) {
      auto tensor = cast<RankedTensorType>(type);
      if (!tensor.hasStaticShape())
        return false;
      bytes += tensor.getNumElements() *
               graph::elementBytes(tensor.getElementType());
    }
  return bytes >= std::max<int64_t>(2 * desc.l3Bytes, 64 << 20);
}

/// Rows that several stages read come from memory in the first of them and from
/// the cache in the others, which leave the memory idle: the last one fetches
/// what the first will read for the next rows. By operand, the elements from
/// `row`'s load to that; `outer` is the axis along which rows follow each
/// other.
static llvm::SmallDenseMap<unsigned, int64_t>
rowsAhead(ArrayRef<LoopUnit> stages, const LoopUnit &stage, unsigned operands,
          unsigned outer, int64_t rows) {
  llvm::SmallDenseMap<unsigned, int64_t> ahead;
  auto forEachLoad = [&](const LoopUnit &unit, auto visit) {
    for (unsigned id : unit.expr.reachable(unit.expr.root))
      if (const LoopNode &node = unit.expr.nodes[id];
          node.kind == LoopNode::Load && node.buffer < operands)
        visit(node);
  };
  forEachLoad(stage, [&](const LoopNode &node) {
    auto coefficient = node.index.coefficient(outer);
    auto step = coefficient ? coefficient->constant() : std::nullopt;
    if (step && *step * graph::elementBytes(node.type) >= 256)
      ahead[node.buffer] = *step * rows;
  });
  llvm::SmallDenseSet<unsigned> before, after;
  bool isBefore = true;
  for (const LoopUnit &other : stages) {
    if (&other == &stage) {
      isBefore = false;
      continue;
    }
    forEachLoad(other, [&](const LoopNode &node) {
      (isBefore ? before : after).insert(node.buffer);
    });
  }
  llvm::SmallDenseMap<unsigned, int64_t> wanted;
  for (auto [buffer, elements] : ahead)
    if (before.contains(buffer) && !after.contains(buffer))
      wanted[buffer] = elements;
  return wanted;
}

// Bytes of the rows computed at once of a result that is fetched early.
static constexpr int64_t resultBlockBytes = 16 << 10;

/// Results that the last stage writes: the lines are fetched one stage before
/// the first that writes them, so that stores need not wait for them, and loads
/// of the next rows not for stores. By the operand of `stage` that is read at
/// the addresses that are written.
static llvm::SmallDenseMap<unsigned, unsigned>
resultsNext(ArrayRef<LoopUnit> stages, const LoopUnit &stage, unsigned operands,
            unsigned results, unsigned outer, int64_t rows) {
  llvm::SmallDenseMap<unsigned, unsigned> found;
  if (&stage == &stages.back())
    return found;
  // A kept row may lie in the result.
  auto isNextToWrite = [&](unsigned buffer) {
    auto stores = [&](const LoopUnit &unit) {
      return llvm::any_of(unit.expr.reachable(unit.expr.root), [&](unsigned i) {
        const LoopNode &node = unit.expr.nodes[i];
        return node.kind == LoopNode::Store && node.buffer == buffer;
      });
    };
    return llvm::find_if(stages, stores) == &stage + 1;
  };
  auto forEach = [&](const LoopUnit &unit, LoopNode::Kind kind, auto visit) {
    for (unsigned id : unit.expr.reachable(unit.expr.root)) {
      const LoopNode &node = unit.expr.nodes[id];
      if (node.kind != kind || !node.guards.empty())
        continue;
      auto coefficient = node.index.coefficient(outer);
      if (auto step = coefficient ? coefficient->constant() : std::nullopt)
        visit(node, *step * graph::elementBytes(node.type));
    }
  };
  forEach(
      stages.back(), LoopNode::Store, [&](const LoopNode &store, int64_t step) {
        if (store.buffer < operands || store.buffer >= operands + results ||
            step < 256 || step * rows > resultBlockBytes ||
            !isNextToWrite(store.buffer))
          return;
        bool isTaken = false;
        forEach(stage, LoopNode::Load, [&](const LoopNode &load, int64_t own) {
          if (isTaken || load.buffer >= operands || own != step ||
              graph::elementBytes(load.type) != graph::elementBytes(store.type))
            return;
          isTaken = found.try_emplace(load.buffer, store.buffer).second;
        });
      });
  return found;
}

// Rows in the worker's scratch, or whole tensors in what all workers share.
SmallVector<Value> KernelEmitter::keptBuffers(KernelFunctionBuilder &function,
                                              IndexEmitter &index,
                                              Value local) {
  MLIRContext *context = kernel.getContext();
  SmallVector<Value> views;
  AffineExpr offset = getAffineConstantExpr(0, context);
  int64_t block = rowBlock;
  for (auto [i, stage] : llvm::enumerate(rowPlan.kept)) {
    Type type = ScalarEmitter::storageType(stage.getElementType());
    if (keptInResults.contains(i)) { // nobody uses it
      views.push_back(function.scratchView(type, index.emit(offset)));
      continue;
    }
    AffineExpr bytes =
        getAffineConstantExpr(type.getIntOrFloatBitWidth() / 8, context);
    for (AffineExpr n : stage.getDomainDims().drop_front(rowPlan.rowRank))
      bytes = bytes * n;
    bytes = bytes.ceilDiv(64) * 64;
    views.push_back(function.scratchView(
        type,
        index.add(index.emit(offset), index.mul(local, index.emit(bytes)))));
    offset = offset + bytes * block;
  }
  result.scratchBytes = graph::simplify(offset);
  return views;
}

/// Whether windows that lie along the axis `outer` overlap so far that at least
/// a fourth of its rows would be read by two threads which share the axis.
static bool overlapsAlong(const LoopExpr &expr, unsigned outer) {
  auto rows = graph::constantValue(expr.extents[outer]);
  auto stepOf = [](const LoopNode &load, unsigned dim) -> int64_t {
    auto coefficient = load.index.coefficient(dim);
    auto step = coefficient ? coefficient->constant() : std::nullopt;
    return step ? std::abs(*step) : 0;
  };
  for (unsigned id : expr.reachable(expr.root)) {
    const LoopNode &fold = expr.nodes[id];
    if (!rows || fold.kind != LoopNode::Fold)
      continue;
    for (unsigned inner : expr.reachable(fold.args[0])) {
      const LoopNode &load = expr.nodes[inner];
      int64_t row = load.kind == LoopNode::Load ? stepOf(load, outer) : 0;
      if (row == 0)
        continue;
      int64_t shared = 0;
      for (unsigned axis : fold.axes) {
        auto taps = graph::constantValue(expr.extents[axis]);
        int64_t step = stepOf(load, axis);
        if (taps && step % row == 0 && step / row < *rows)
          shared += (*taps - 1) * (step / row);
      }
      if (shared * 4 >= *rows)
        return true;
    }
  }
  return false;
}

void KernelEmitter::emitPhase(MutableArrayRef<LoopUnit> stages,
                              StringRef symbol) {
  LoopUnit &main = stages.back();
  LoopTasks tasks =
      LoopTasks::get(stages, rowPlan, target, schedule, kernel.getContext());
  bool isSingle = tasks.isSingle, hasPieces = tasks.hasPieces;
  ArrayRef<unsigned> outer = tasks.outer;
  int pieceDim = tasks.pieceDim;
  result.phases.push_back({symbol.str(), tasks.numTasks()});

  KernelFunctionBuilder function(
      *result.module, symbol, bufferTypes, kernel.getNumSymbols(),
      /*noalias=*/true, rowPlan.mode == RowPlan::Phases);
  for (graph::InPlacePair pair : result.inPlace)
    function.mayOverlap(pair.operand, places.firstResult + pair.result);
  OpBuilder &b = function.builder();
  Location loc = function.loc();
  SmallVector<Value> symbols = function.symbols(), buffers;
  IndexEmitter index(b, loc, symbols);
  for (unsigned i = 0; i < places.firstKept; ++i)
    buffers.push_back(function.buffer(i));
  int64_t block = isSingle ? 1 : rowBlock;
  if (block == 1)
    buffers.append(keptBuffers(function, index, index.constant(0)));

  // Neighbouring tasks are one thread's, mostly: they are pieces of one row,
  // or, where rows read much of each other's, the rows of one piece.
  bool rowsFirst = hasPieces && llvm::any_of(outer, [&](unsigned d) {
                     return overlapsAlong(main.expr, d);
                   });
  Value faster = index.emit(rowsFirst ? tasks.rowTasks : tasks.pieceTasks);
  Value slower = index.divUnsigned(function.task(), faster);
  Value next = index.remUnsigned(function.task(), faster);
  Value rowTask = rowsFirst ? next : slower;
  Value count = index.emit(tasks.numRows), step = index.emit(tasks.rowsPerTask);
  Value begin = index.mul(rowTask, step);
  Value end = index.min(index.add(begin, step), count);
  Value pieceBegin, pieceEnd;
  if (hasPieces) {
    Value extent = index.emit(main.expr.extents[pieceDim]);
    Value size = index.emit(tasks.piece);
    pieceBegin = index.mul(rowsFirst ? slower : next, size);
    pieceEnd = index.min(index.add(pieceBegin, size), extent);
    if (graph::constantValue(tasks.pieceTasks) == 1) { // known to be whole
      pieceBegin = index.constant(0);
      pieceEnd = extent;
    }
  }
  if (graph::constantValue(tasks.numRows) == 1) {
    begin = index.constant(0);
    end = index.constant(1);
  }
  LoopEmitterOptions emitterOptions;
  emitterOptions.scalar = ScalarOptions::get(target, options.strict);
  emitterOptions.maskedMemory = maskedMemory();
  llvm::SmallDenseSet<unsigned> streamed;
  for (unsigned j = 0; j < kernel.getResultTypes().size(); ++j)
    if (isStreamed(j))
      streamed.insert(places.firstResult + j);
  bool hasStreamed = false;
  // One stage of a row; the row's number gives its coordinates, the last axis
  // fastest.
  auto emitStage = [&](LoopUnit &stage, Value row, ArrayRef<Value> memory) {
    SmallVector<Value> extents;
    for (unsigned d : outer)
      extents.push_back(index.emit(main.expr.extents[d]));
    SmallVector<Value> coords = IndexBuilder(b, loc).delinearize(row, extents);
    emitterOptions.width = stage.plan.width;
    emitterOptions.rowGroups = stage.plan.rowGroups;
    emitterOptions.unrollLimit = stage.plan.unrollLimit;
    emitterOptions.prefetch.clear();
    emitterOptions.prefetchResult.clear();
    emitterOptions.streamed = streamed;
    if (!isSingle && !outer.empty()) {
      unsigned operands = kernel.getArgumentTypes().size();
      emitterOptions.prefetch =
          rowsAhead(stages, stage, operands, outer.back(), rowBlock);
      emitterOptions.prefetchResult =
          resultsNext(stages, stage, operands, kernel.getResultTypes().size(),
                      outer.back(), rowBlock);
      for (auto [load, written] :
           llvm::to_vector(emitterOptions.prefetchResult))
        if (streamed.contains(written))
          emitterOptions.prefetchResult.erase(load);
    }
    LoopEmitter emitter(b, loc, stage.expr, memory, symbols, function.status(),
                        emitterOptions);
    SmallVector<unsigned> inner;
    for (unsigned d : stage.expr.domain)
      if (!llvm::is_contained(outer, d) &&
          (!stage.plan.isInner(d) ||
           llvm::is_contained(stage.plan.unrolled, d)))
        inner.push_back(d);
    for (auto [d, value] : llvm::zip(outer, coords))
      emitter.setDim(d, value);
    StageLoops loops(b, loc, stage.expr, stage.plan, emitter, maskedMemory(),
                     options.strict);
    if (pieceDim == main.plan.laneDim)
      loops.emit(inner, pieceBegin, pieceEnd);
    else
      loops.emitTilesBetween(inner, pieceBegin, pieceEnd);
    hasStreamed |= emitter.hasStreamed();
  };
  // Such stores are ordered by nothing that the threads wait for.
  auto finish = [&] {
    if (hasStreamed)
      LLVM::CallIntrinsicOp::create(
          b, loc, b.getStringAttr("llvm.x86.sse.sfence"), ValueRange());
    function.finish();
  };
  IndexBuilder rowIndex(b, loc);
  if (tasks.lanesAtOnce && pieceDim == main.plan.laneDim) {
    Value piece = pieceEnd;
    rowIndex.forEach(pieceBegin, piece, tasks.lanesAtOnce, [&](Value lane) {
      pieceBegin = lane;
      pieceEnd =
          index.min(index.add(lane, index.constant(tasks.lanesAtOnce)), piece);
      rowIndex.forEach(begin, end, 1,
                       [&](Value row) { emitStage(main, row, buffers); });
    });
    return finish();
  }
  rowIndex.forEach(begin, end, block, [&](Value first) {
    if (block == 1) {
      for (LoopUnit &stage : stages)
        emitStage(stage, first, buffers);
      return;
    }
    Value last = index.min(index.add(first, index.constant(block)), end);
    for (LoopUnit &stage : stages)
      rowIndex.forEach(first, last, 1, [&](Value row) {
        SmallVector<Value> memory(buffers);
        memory.append(keptBuffers(function, index, index.sub(row, first)));
        emitStage(stage, row, memory);
      });
  });
  finish();
}

/// What the phases store, in order.
graph::ComputeOrder KernelEmitter::orderOf(ArrayRef<LoopUnit> units,
                                           bool byRows) {
  graph::ComputeOrder order{byRows, byRows ? rowPlan.rowRank : 0, {}};
  std::vector<StageOp> stages = kernel.getStages();
  auto numberOf = [&](const LoopOutput &output) -> unsigned {
    return llvm::find(stages, output.stage) - stages.begin();
  };
  for (const LoopUnit &unit : units) {
    graph::ComputeStep &step = order.steps.emplace_back();
    for (const auto *outputs : {&unit.source.outputs, &unit.source.absorbed})
      for (const LoopOutput &output : *outputs)
        if (unsigned stage = numberOf(output);
            !llvm::is_contained(step.stages, stage))
          step.stages.push_back(stage);
    // A fold that stores what it reads may pass over it again.
    step.isPointwise = unit.source.absorbed.empty() && !unit.expr.moments;
  }
  return order;
}

/// Pairs of which the result's loop reads the operand where it stores, and no
/// later loop reads it.
void KernelEmitter::findInPlace(ArrayRef<LoopUnit> units) {
  if (graph::hasPitches(kernel))
    return; // a part of a larger tensor is nobody's buffer
  auto bytesOf = [&](unsigned buffer) {
    return bufferTypes[buffer].getIntOrFloatBitWidth();
  };
  for (unsigned j = 0; j < kernel.getResultTypes().size(); ++j)
    for (unsigned i = 0; i < kernel.getArgumentTypes().size(); ++i) {
      unsigned result = places.firstResult + j;
      if (!options.isReusable(i) || bytesOf(i) != bytesOf(result))
        continue;
      bool isStored = false, isRead = false, fits = true;
      for (const LoopUnit &unit : units) {
        std::optional<IndexPoly> stored;
        for (unsigned id : unit.expr.reachable(unit.expr.root))
          if (const LoopNode &node = unit.expr.nodes[id];
              node.kind == LoopNode::Store && node.buffer == result)
            stored = node.index;
        isStored |= stored.has_value();
        for (unsigned id : unit.expr.reachable(unit.expr.root))
          if (const LoopNode &node = unit.expr.nodes[id];
              node.kind == LoopNode::Load && node.buffer == i) {
            isRead = true;
            fits &= !isStored || (stored && node.index == *stored);
          }
      }
      if (isStored && isRead && fits)
        this->result.inPlace.push_back({i, j});
    }
}

/// A kept stage that the last loop reads where it stores its only result, of
/// the same type, lies in the result's rows until then: one row less in the
/// caches. (What computes a second result would read it after that store.)
void KernelEmitter::keepInResults(MutableArrayRef<LoopUnit> units) {
  if (graph::hasPitches(kernel))
    return; // as above
  LoopExpr &last = units.back().expr;
  std::vector<unsigned> nodes = last.reachable(last.root);
  auto isInPlace = [&](unsigned buffer) {
    return llvm::any_of(result.inPlace, [&](graph::InPlacePair pair) {
      return places.firstResult + pair.result == buffer;
    });
  };
  if (llvm::count_if(nodes, [&](unsigned id) {
        return last.nodes[id].kind == LoopNode::Store;
      }) != 1)
    return;
  // From a kept row's addresses to the result's.
  auto distanceOf = [&](const LoopNode &store, unsigned buffer) {
    std::optional<IndexPoly> distance;
    for (unsigned id : nodes) {
      const LoopNode &load = last.nodes[id];
      if (load.kind != LoopNode::Load || load.buffer != buffer)
        continue;
      IndexPoly from = store.index - load.index;
      bool isRow = load.guards.empty() && load.data.empty();
      for (unsigned d = rowPlan.rowRank; d < last.extents.size(); ++d)
        isRow &= !from.dependsOnDim(d);
      if (!isRow || (distance && !(*distance == from)))
        return std::optional<IndexPoly>();
      distance = from;
    }
    return distance;
  };
  for (unsigned id : nodes) {
    LoopNode store = last.nodes[id];
    if (store.kind != LoopNode::Store || !store.guards.empty() ||
        store.buffer < places.firstResult || store.buffer >= places.firstKept ||
        isInPlace(store.buffer))
      continue;
    for (auto [i, stage] : llvm::enumerate(rowPlan.kept)) {
      unsigned buffer = places.firstKept + i;
      if (ScalarEmitter::storageType(stage.getElementType()) !=
              bufferTypes[store.buffer] ||
          keptInResults.contains(i))
        continue;
      auto distance = distanceOf(store, buffer);
      if (!distance)
        continue;
      keptInResults[i] = store.buffer;
      for (LoopUnit &unit : units) {
        for (LoopNode &node : unit.expr.nodes)
          if ((node.kind == LoopNode::Load || node.kind == LoopNode::Store) &&
              node.buffer == buffer) {
            node.buffer = store.buffer;
            node.index = node.index + *distance;
          }
        unit.expr.computeNeeds();
      }
      break;
    }
  }
}

CpuKernel KernelEmitter::emit() {
  MLIRContext *context = kernel.getContext();
  result.symbol = options.symbol;
  result.module = ModuleOp::create(kernel.getLoc());
  result.scratchBytes = getAffineConstantExpr(0, context);
  result.nest =
      schedule.nest.empty() ? chooseNest(kernel).str() : schedule.nest;
  for (TypeRange types : {TypeRange(kernel.getArgumentTypes()),
                          TypeRange(kernel.getResultTypes())})
    for (Type type : types)
      bufferTypes.push_back(ScalarEmitter::storageType(
          cast<RankedTensorType>(type).getElementType()));
  auto [units, isByRows] =
      LoopPhases::get(places, rowPlan, target, options.strict, schedule);
  result.order = orderOf(units, isByRows);
  findInPlace(units);
  rowBlock = chooseRowBlock(units);
  if (isByRows) {
    keepInResults(units);
    emitPhase(units, options.symbol);
    return std::move(result);
  }
  for (auto [i, unit] : llvm::enumerate(units)) {
    std::string symbol = options.symbol;
    if (units.size() > 1)
      symbol += "_" + std::to_string(i);
    emitPhase(unit, symbol);
  }
  return std::move(result);
}

//===----------------------------------------------------------------------===//
// Entry
//===----------------------------------------------------------------------===//

LoopSchedule LoopSchedule::get(graph::KernelOp kernel) {
  LoopSchedule schedule;
  DictionaryAttr attr = kernel.getScheduleAttr();
  if (!attr)
    return schedule;
  if (auto nest = attr.getAs<StringAttr>("nest"))
    schedule.nest = nest.str();
  auto number = [&](StringRef key) -> int64_t {
    auto value = attr.getAs<IntegerAttr>(key);
    return value ? value.getInt() : 0;
  };
  schedule.width = number("width");
  schedule.groups = number("groups");
  schedule.across = number("across");
  schedule.grain = number("grain");
  schedule.mergesMoments = hasLaw(kernel, graph::Law::homWelford());
  return schedule;
}

StringRef dlc::chooseNest(graph::KernelOp kernel) {
  for (StageOp stage : kernel.getStages())
    if (stage.getFoldKind() != graph::FoldKind::none)
      return "row";
  return "map";
}

FailureOr<CpuKernel> dlc::emitLoopNest(graph::KernelOp kernel,
                                       const CpuTarget &target,
                                       const CpuCodegenOptions &options,
                                       const LoopSchedule &schedule) {
  if (!schedule.nest.empty() && schedule.nest != "map" &&
      schedule.nest != "row" && schedule.nest != "generic")
    return kernel.emitError("unknown nest '") << schedule.nest << "'";
  return KernelEmitter(kernel, target, options, schedule).emit();
}
