// The default policy: times from work and traffic, and the forms that nests
// run well.
#include "PolicyCounts.h"

#include "dlc/Schedule/DataCoordinates.h"
#include "dlc/Schedule/IndexPoly.h"
#include "dlc/Schedule/NarrowNumbers.h"
#include "dlc/Schedule/NestChoice.h"
#include "dlc/Schedule/RowPlan.h"

#include "llvm/ADT/SmallBitVector.h"

#include <cmath>

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;
using graph::ScalarFn;

//===----------------------------------------------------------------------===//
// Inlining
//===----------------------------------------------------------------------===//

// C-RECOMPUTE, stage by stage: computing a value again where it is read must
// not take longer than storing it in a row buffer and loading it.
bool NestPolicy::inlines(const Stage &producer, ArrayRef<StageRef> consumers,
                         bool isOutput, bool readsFold,
                         ArrayRef<int64_t> symbols) const {
  double weight = 0;
  for (const Node &node : producer.nodes)
    weight += weightOf(node);
  if (!isOutput && multipliesNarrow() && consumers.size() == 1 &&
      isContraction(*consumers[0]) && !producer.isFold() &&
      (isNarrowFactor(producer, producer.root, producer.domain.size()) ||
       isDequantized(producer, producer.root)) &&
      llvm::any_of(consumers[0]->nodes[consumers[0]->root].args,
                   [&](unsigned factor) {
                     const Node &node = consumers[0]->nodes[factor];
                     return node.kind == Node::Load && node.guard.empty() &&
                            node.tensor == producer.result;
                   }))
    return true;
  double points = pointsOf(producer.domain, symbols);
  double again = 0, loads = 0;
  unsigned numLoads = 0;
  for (const StageRef &consumer : consumers) {
    SmallVector<double> prefix{1};
    for (AffineExpr e : consumer->extents())
      prefix.push_back(prefix.back() * sizeOf(e, symbols));
    std::vector<int> axes = innermostAxes(*consumer);
    for (auto [i, node] : llvm::enumerate(consumer->nodes))
      if (node.kind == Node::Load && node.tensor == producer.result) {
        again += weight * prefix[axes[i] + 1];
        ++numLoads;
        loads += prefix[axes[i] + 1];
      }
  }
  if (isOutput)
    return again <= loads;
  // The nests compute a stage that is loaded once where it is loaded, and the
  // fold with it; the fold is kept if it is what is loaded.
  if (readsFold && numLoads == 1 && weight <= 8)
    return true;
  return again <= weight * points + points + loads;
}

//===----------------------------------------------------------------------===//
// Time
//===----------------------------------------------------------------------===//

// Idle lanes count more than work: the peak that work is measured by is of
// fused multiply-adds that wait for nothing, loops of other operations reach a
// quarter of it.
static constexpr double kIdle = 4;

/// The points of the longest stage's row, where stages are kept in rows.
static double rowPoints(const Candidate &candidate) {
  constexpr double all = std::numeric_limits<double>::infinity();
  // Rows of short ones are made longer (Schedule/RowPlan.cpp).
  constexpr double nearBytes = 16 << 10;
  const std::vector<StageRef> &stages = candidate.body.stages;
  unsigned rows = 0;
  if (stages.size() < 2 || checkRow(candidate.body, rows) || rows == 0)
    return all;
  auto points = [&](unsigned rank) {
    double most = 1;
    for (const StageRef &stage : stages)
      most = std::max(most, pointsOf(ArrayRef(stage->domain).drop_front(rank),
                                     candidate.symbols));
    return most;
  };
  while (rows > 0 && points(rows - 1) * 4 * stages.size() <= nearBytes)
    --rows;
  return points(rows);
}

static double countWhole(const Candidate &candidate,
                         llvm::function_ref<double(double)> traffic);

double NestPolicy::getSeconds(const Candidate &candidate) const {
  KernelWork work;
  const Body &body = candidate.body;
  // What lies in a cache is read some times faster than memory.
  auto traffic = [&](double bytes) {
    return bytes <= static_cast<double>(target.l2Bytes) / 2 ? bytes / 4 : bytes;
  };
  double lanes = std::max(1u, target.vectorBytes / 4);
  const Stage *sum = findContraction(body);
  double row = sum ? columnsOf(*sum, candidate.symbols) : rowPoints(candidate);
  for (const StageRef &stage : body.stages) {
    double ops = workOf(*stage, candidate.symbols);
    if (!stage->isFold()) { // in a short loop some lanes are idle
      if (stage->run < 0)
        stage->run = innermostRun(*stage, candidate.tensors, candidate.symbols,
                                  4 * lanes);
      double run = std::min(row, stage->run);
      ops *= 1 + kIdle * (std::ceil(run / lanes) * lanes / run - 1);
    }
    // What is stored costs an operation wherever it lies, and traffic in
    // memory.
    work.scalarOps += ops + pointsOf(stage->domain, candidate.symbols);
    double bytes = bytesOf(stage->type, candidate.symbols);
    if (candidate.isOutput(stage->result))
      work.bytes += traffic(bytes);
  }
  for (TensorId operand : body.operands()) {
    double bytes =
        bytesOf(candidate.tensors.typeOf(operand), candidate.symbols);
    // A slice or a gather reads no more than its points.
    double wanted = 0;
    for (const StageRef &stage : body.stages)
      for (const Node &node : stage->nodes)
        if (node.kind == Node::Load && node.tensor == operand)
          wanted += pointsOf(stage->extents(), candidate.symbols) *
                    static_cast<double>(graph::elementBytes(node.type));
    work.bytes += traffic(std::min(bytes, wanted));
  }
  if (!sum || !hasOwnAxes(*sum)) // else a stage before it is computed in panels
    work.bytes += countWhole(candidate, traffic);
  return limits.startSeconds + cost.getSeconds(work, target);
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

// A fold that its single reader wants once an element is computed there by the
// nests and needs no buffer.
static bool isComputedByReader(const Candidate &candidate, const Stage &stage) {
  if (candidate.isOutput(stage.result))
    return false;
  const Stage *reader = nullptr;
  const Node *load = nullptr;
  for (const StageRef &other : candidate.body.stages) {
    if (!other->reads(stage.result))
      continue;
    for (const Node &node : other->nodes)
      if (node.kind == Node::Load && node.tensor == stage.result) {
        if (load)
          return false;
        load = &node, reader = other.get();
      }
  }
  if (!load || !load->guard.empty() || reader->isFold())
    return false;
  llvm::SmallDenseSet<unsigned> seen;
  for (AffineExpr at : load->index) {
    if (graph::constantValue(at) == 0)
      continue;
    auto dim = dyn_cast<AffineDimExpr>(at);
    if (!dim || !seen.insert(dim.getPosition()).second)
      return false;
  }
  for (auto [i, extent] : llvm::enumerate(reader->domain))
    if (!seen.contains(i) && graph::constantValue(extent) != 1)
      return false;
  return true;
}

static unsigned countLoads(const Body &body, TensorId tensor) {
  unsigned count = 0;
  for (const StageRef &stage : body.stages)
    if (stage->reads(tensor))
      for (const Node &node : stage->nodes)
        count += node.kind == Node::Load && node.tensor == tensor;
  return count;
}

// The nests compute a stage without a fold that is loaded once where it is
// loaded; a fold that is computed in it is computed there too.
bool NestPolicy::repeatsWork(const Candidate &candidate,
                             const StageRef &stage) const {
  if (stage->isFold() || candidate.isOutput(stage->result) ||
      countLoads(candidate.body, stage->result) != 1)
    return false;
  for (const StageRef &other : candidate.body.stages) {
    if (other->isFold() && stage->reads(other->result) &&
        isComputedByReader(candidate, *other))
      return true;
    if (!other->isFold() && other->reads(stage->result) &&
        !inlines(*stage, other, /*isOutput=*/false, /*readsFold=*/false,
                 candidate.symbols))
      return true;
  }
  return false;
}

// Less scalar work than one task should have.
static constexpr double smallWork = 1 << 16;
// What one task of the loop nests does: a kernel of less has a single one.
static constexpr double taskWork = 1 << 17;
// Fewer rows than this, of more points, are computed a stage at a time, each by
// as many tasks as it had by itself (Schedule/RowPlan.cpp).
static constexpr double fewRows = 8, manyPoints = 32 << 10;

// The work of the stages that have points enough for all cores, and are more
// than one task.
static double parallelWork(const Candidate &first, const Candidate &second,
                           ArrayRef<int64_t> symbols, double needed) {
  double most = 0;
  for (const Candidate *part : {&first, &second})
    for (const StageRef &stage : part->body.stages)
      if (pointsOf(stage->domain, symbols) >= needed)
        most = std::max(most, workOf(*stage, symbols));
  return most > taskWork ? most : 0;
}

// Stages over one domain, each of which reads an operand that another reads.
static bool shareLoop(const Body &body) {
  llvm::DenseMap<TensorId, unsigned> readers;
  auto forEachOperand = [&](const Stage &stage, auto &&fn) {
    llvm::SmallDenseSet<TensorId, 8> seen;
    for (const Node &node : stage.nodes)
      if (node.kind == Node::Load && seen.insert(node.tensor).second)
        fn(node.tensor);
  };
  const Stage &first = *body.stages.front();
  for (const StageRef &stage : body.stages) {
    if (stage->domain != first.domain || stage->reduce != first.reduce)
      return false;
    forEachOperand(*stage, [&](TensorId id) { ++readers[id]; });
  }
  return llvm::all_of(body.stages, [&](const StageRef &stage) {
    bool shares = false;
    forEachOperand(*stage, [&](TensorId id) { shares |= readers[id] > 1; });
    return shares;
  });
}

// What takes less than storing and loading it in memory: x - mean, not an
// exponential.
static constexpr int64_t kAgainWeight = 8;

// A cheap stage whose row is too long for the cache is not kept by the nests,
// but computed again where it is read (Schedule/RowPlan.cpp).
static bool isReadAgain(const Body &body, const Stage &stage, double rowBytes) {
  if (stage.isFold() || rowBytes <= kNearBytes)
    return false;
  int64_t weight = 0;
  for (const Node &node : stage.nodes) {
    if (node.kind == Node::ToIndex)
      return false;
    weight += node.kind == Node::Apply
                  ? scalarWeight(static_cast<ScalarFn>(node.fn))
                  : node.kind == Node::Load;
  }
  auto isWhole = [&](const Node &node) {
    llvm::SmallDenseSet<unsigned> seen;
    return node.guard.empty() && llvm::all_of(node.index, [&](AffineExpr at) {
             auto dim = dyn_cast<AffineDimExpr>(at);
             return graph::constantValue(at) == 0 ||
                    (dim && seen.insert(dim.getPosition()).second);
           });
  };
  return weight <= kAgainWeight &&
         llvm::all_of(body.stages, [&](const StageRef &reader) {
           return llvm::all_of(reader->nodes, [&](const Node &node) {
             return node.kind != Node::Load || node.tensor != stage.result ||
                    isWhole(node);
           });
         });
}

// Whether the nests compute a stage at a time.
static bool hasPhases(double rows, double rowPoints) {
  return rows < fewRows && rowPoints > manyPoints;
}

// Whether windows of a tensor are read that overlap: with channels last, its
// elements are no row's.
static bool isReadByWindows(const Body &body, TensorId tensor) {
  return llvm::any_of(body.stages, [&](const StageRef &stage) {
    return llvm::any_of(stage->nodes, [&](const Node &node) {
      return node.kind == Node::Load && node.tensor == tensor &&
             llvm::any_of(node.index, [](AffineExpr at) {
               return at.getKind() == AffineExprKind::Add;
             });
    });
  });
}

// What is written and read again of tensors that no result is, but that are
// kept whole between two phases.
static double countWhole(const Candidate &candidate,
                         llvm::function_ref<double(double)> traffic) {
  const std::vector<StageRef> &stages = candidate.body.stages;
  unsigned rank = 0;
  if (stages.size() < 2 || checkRow(candidate.body, rank))
    return 0;
  double rows = pointsOf(ArrayRef(stages.front()->domain).take_front(rank),
                         candidate.symbols),
         most = 0;
  for (const StageRef &stage : stages)
    if (!isComputedByReader(candidate, *stage))
      most =
          std::max(most, pointsOf(stage->extents(), candidate.symbols) / rows);
  bool inPhases = hasPhases(rows, most);
  double bytes = 0;
  for (const StageRef &stage : stages) {
    double own = bytesOf(stage->type, candidate.symbols);
    if (!candidate.isOutput(stage->result) &&
        !isComputedByReader(candidate, *stage) &&
        !isReadAgain(candidate.body, *stage, own / rows) &&
        (inPhases || isReadByWindows(candidate.body, stage->result)))
      bytes += 2 * traffic(own);
  }
  return bytes;
}

std::optional<Refusal> NestPolicy::checkRows(const Candidate &merged,
                                             const Candidate &first,
                                             const Candidate &second) const {
  const Body &body = merged.body;
  Body kept; // the stages that lie in memory
  for (const StageRef &stage : body.stages)
    if (!isComputedByReader(merged, *stage))
      kept.stages.push_back(stage);
  double needed = 4.0 * std::max(target.cores, 2u);
  if (kept.stages.size() < 2) {
    // A task folds whole elements: few elements keep few cores busy.
    double tasks = pointsOf(kept.stages.back()->domain, merged.symbols);
    bool folds = llvm::any_of(
        body.stages, [](const StageRef &stage) { return stage->isFold(); });
    if (folds && tasks < needed &&
        parallelWork(first, second, merged.symbols, needed) > 0)
      return Refusal{Condition::Parallel,
                     std::to_string(static_cast<int64_t>(tasks)) +
                         " folds are too few to run in parallel"};
    return std::nullopt;
  }
  for (const StageRef &stage : kept.stages)
    if (limits.nestsInlineSingleLoads && repeatsWork(merged, stage))
      return Refusal{Condition::Recompute,
                     "the nests would compute a value again for each point it "
                     "is loaded at"};
  bool hasReads = llvm::any_of(kept.stages, [&](const StageRef &stage) {
    return llvm::any_of(body.stages, [&](const StageRef &other) {
      return other->reads(stage->result);
    });
  });
  if (!hasReads) {
    // One loop for results of one domain that read the same; else the nests run
    // the stages one after the other.
    double work = 0;
    for (const StageRef &stage : body.stages)
      work += workOf(*stage, merged.symbols);
    if (work > smallWork && !shareLoop(body))
      return Refusal{Condition::Traffic,
                     "results that do not read each other share no loop"};
    return std::nullopt;
  }
  unsigned rows = 0;
  if (auto refusal = checkRow(kept, rows))
    return refusal;
  // Reads through a stage that its reader computes count as the reader's; such
  // a stage shares the reader's domain, so its own reads tell.
  unsigned all = 0;
  if (auto refusal = checkRow(body, all))
    return refusal;
  rows = std::min(rows, all);
  double work = 0, scratch = 0;
  bool hasFold = false;
  for (const StageRef &stage : body.stages) {
    hasFold |= stage->isFold();
    work += workOf(*stage, merged.symbols);
  }
  // The nests make rows of one element longer.
  for (const StageRef &stage : kept.stages)
    if (!stage->isFold() && rows == stage->domain.size() && rows > 0)
      --rows;
  double parallel = 1;
  for (AffineExpr e : ArrayRef(kept.stages.front()->domain).take_front(rows))
    parallel *= sizeOf(e, merged.symbols);
  for (const StageRef &stage : kept.stages) {
    double bytes = bytesOf(stage->type, merged.symbols) / parallel;
    if (!merged.isOutput(stage->result) && !isReadAgain(body, *stage, bytes))
      scratch += bytes;
  }
  double rowPoints = 0;
  for (const StageRef &stage : kept.stages)
    rowPoints = std::max(rowPoints,
                         pointsOf(stage->extents(), merged.symbols) / parallel);
  bool inPhases = hasPhases(parallel, rowPoints);
  if (parallel < needed && !inPhases &&
      parallelWork(first, second, merged.symbols, needed) > 0)
    return Refusal{Condition::Parallel,
                   std::to_string(static_cast<int64_t>(parallel)) +
                       " rows are too few to run in parallel"};
  if (!inPhases && scratch > static_cast<double>(target.l2Bytes) / 2)
    return Refusal{Condition::Capacity,
                   "the row buffers take " +
                       std::to_string(static_cast<int64_t>(scratch)) +
                       " bytes, more than half of the second-level cache"};
  if (!hasFold) {
    // A row is one pass of the innermost axis for each stage.
    double inner = work > smallWork ? 256 : 1;
    double row =
        pointsOf(kept.stages.back()->domain, merged.symbols) / parallel;
    if (!inPhases && row < inner)
      return Refusal{Condition::Parallel,
                     "rows of " + std::to_string(static_cast<int64_t>(row)) +
                         " elements are too short for several stages"};
  }
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Layout and size
//===----------------------------------------------------------------------===//

// A coordinate that moves by 0 or 1 elements along its axis: the axis itself,
// or a quotient of it (elements that are repeated).
static bool isUnitStep(AffineExpr coordinate) {
  if (coordinate.getKind() == AffineExprKind::FloorDiv)
    coordinate = cast<AffineBinaryOpExpr>(coordinate).getLHS();
  return isa<AffineDimExpr>(coordinate);
}

// The same, also of the axis' distance from some place (beside a padded edge).
static bool isUnitStepFrom(AffineExpr coordinate) {
  if (coordinate.getKind() == AffineExprKind::FloorDiv)
    coordinate = cast<AffineBinaryOpExpr>(coordinate).getLHS();
  IndexPoly at = IndexPoly::get(coordinate);
  auto isStep = [](auto &term) {
    return term.first.size() == 1 && isa<AffineDimExpr>(term.first[0]) &&
           std::abs(term.second) == 1;
  };
  return llvm::count_if(at.terms, isStep) == 1 &&
         llvm::all_of(at.terms, [&](auto &term) {
           return term.first.empty() || isStep(term);
         });
}

// Whether an index moves by 0 or 1 elements along an axis, where that can be
// told without its address.
static bool
isPlainlyDense(ArrayRef<AffineExpr> index, ArrayRef<AffineExpr> sizes,
               unsigned axis,
               llvm::function_ref<bool(AffineExpr)> isUnitStep = ::isUnitStep) {
  for (size_t i = index.size(); i-- > 0;) {
    if (!index[i].isFunctionOfDim(axis)) {
      if (graph::constantValue(sizes[i]) == 1)
        continue;
      return llvm::none_of(index.take_front(i), [&](AffineExpr e) {
        return e.isFunctionOfDim(axis);
      });
    }
    return isUnitStep(index[i]) &&
           llvm::none_of(index.take_front(i),
                         [&](AffineExpr e) { return e.isFunctionOfDim(axis); });
  }
  return true;
}

// Loads that take an instruction a lane. A single stage without folds and
// guards is transposed by tiles in registers instead.
static void countStrided(const Stage &stage, const TensorTable &tensors) {
  stage.tiles =
      !stage.isFold() && llvm::all_of(stage.nodes, [](const Node &node) {
        return node.guard.empty() && node.kind != Node::ToIndex;
      });
  int dense = -1; // the axis along which the strided loads are dense
  SmallVector<AffineExpr> extents = stage.extents();
  IndexMath math(stage.type.getContext(), extents);
  auto lastWide = [&](unsigned begin, unsigned end) {
    for (unsigned i = end; i-- > begin;)
      if (graph::constantValue(extents[i]) != 1)
        return static_cast<int>(i);
    return -1;
  };
  unsigned rank = stage.domain.size();
  int across = lastWide(0, rank), along = lastWide(rank, extents.size());
  unsigned byAcross = 0, byAlong = 0;
  for (const Node &node : stage.nodes) {
    if (node.kind != Node::Load)
      continue;
    SmallVector<AffineExpr> sizes = graph::getDims(tensors.typeOf(node.tensor));
    Poly address; // most loads need none
    auto isStrided = [&](int axis) {
      if (axis < 0 || isPlainlyDense(node.index, sizes, axis))
        return false;
      if (address.terms.empty())
        address = math.flatten(node.index, sizes);
      auto step = IndexMath::coefficient(address, axis);
      auto value = step ? step->constant() : std::nullopt;
      return !value || std::abs(*value) > 1;
    };
    byAlong += along >= 0 && isStrided(along);
    if (!isStrided(across))
      continue;
    ++byAcross;
    int here = -1;
    for (unsigned d = 0; d < rank; ++d)
      if (auto step = IndexMath::coefficient(address, d);
          step && step->constant() == 1)
        here = static_cast<int>(d);
    stage.tiles &= here >= 0 && (dense < 0 || dense == here);
    dense = here;
  }
  stage.strided = along < 0    ? byAcross
                  : across < 0 ? byAlong
                               : std::min(byAlong, byAcross);
}

static unsigned countStrided(const Candidate &candidate) {
  const std::vector<StageRef> &stages = candidate.body.stages;
  unsigned count = 0;
  for (const StageRef &stage : stages) {
    if (stage->strided < 0)
      countStrided(*stage, candidate.tensors);
    count += stage->strided;
  }
  return stages.size() == 1 && stages[0]->tiles ? 0 : count;
}

// Whether the last axes of all stages without folds are walked element by
// element, some of them repeatedly.
static bool walksOrRepeats(const Candidate &candidate) {
  return llvm::all_of(candidate.body.stages, [&](const StageRef &stage) {
    unsigned axis = stage->domain.size();
    while (axis > 0 && graph::constantValue(stage->domain[axis - 1]) == 1)
      --axis;
    return stage->strided == 0 || axis == 0 ||
           (!stage->isFold() &&
            llvm::all_of(stage->nodes, [&](const Node &node) {
              return node.kind != Node::Load ||
                     isPlainlyDense(
                         node.index,
                         graph::getDims(candidate.tensors.typeOf(node.tensor)),
                         axis - 1, isUnitStepFrom);
            }));
  });
}

Type fusion::imageOfConvolutions(const Candidate &candidate) {
  constexpr int64_t fewChannels = 16;
  if (candidate.outputs.size() != 1)
    return {};
  Value value = candidate.tensors.valueOf(candidate.outputs[0]);
  auto type =
      value ? cast<RankedTensorType>(value.getType()) : RankedTensorType();
  if (!type || type.getRank() < 4 || type.getRank() > 5)
    return {};
  auto channels = graph::constantValue(graph::getDims(type)[1]);
  return channels && *channels >= fewChannels && belongsToProducts(value)
             ? type.getElementType()
             : Type();
}

std::optional<Refusal> NestPolicy::checkLayout(const Candidate &merged,
                                               const Candidate &first,
                                               const Candidate &second) const {
  unsigned strided = countStrided(merged);
  // With channels last the pixels that are repeated are not along the lanes.
  Type image = imageOfConvolutions(second);
  bool isRelaid = limits.relaysImages && strided > 0 && image &&
                  image.isF32() && walksOrRepeats(merged);
  if (strided > 0 && !isRelaid &&
      strided > countStrided(first) + countStrided(second))
    return Refusal{Condition::Layout,
                   std::to_string(strided) +
                       " loads would be strided that were contiguous"};
  return std::nullopt;
}

std::optional<Refusal> NestPolicy::checkMembers(size_t members) const {
  if (members <= limits.members)
    return std::nullopt;
  return Refusal{Condition::Size,
                 "more than " + std::to_string(limits.members) + " members"};
}

std::optional<Refusal> NestPolicy::checkSize(const Candidate &merged) const {
  auto refuse = [](const Twine &reason) {
    return Refusal{Condition::Size, reason.str()};
  };
  const Body &body = merged.body;
  if (body.stages.size() > limits.stages)
    return refuse("more than " + Twine(limits.stages) + " stages");
  if (body.operands().size() + merged.outputs.size() > limits.operands)
    return refuse("more than " + Twine(limits.operands) +
                  " operands and results");
  for (const StageRef &stage : body.stages) {
    if (stage->nodes.size() > limits.nodes)
      return refuse("an expression of " + Twine(stage->nodes.size()) +
                    " nodes");
    for (const Node &node : stage->nodes)
      if (node.kind == Node::Inside && !limits.allowsInside)
        return refuse("no nest computes an expression under a guard");
  }
  return std::nullopt;
}

void NestPolicy::prepare(func::FuncOp main) const {
  if (multipliesNarrow())
    splitWidenings(main);
}

/// Whether `second` widens narrow numbers for products, which take them as they
/// are.
static bool widensForProducts(const Candidate &second) {
  const std::vector<StageRef> &stages = second.body.stages;
  if (stages.size() != 1 || stages[0]->isFold() || second.outputs.size() != 1 ||
      !isNarrowFactor(*stages[0], stages[0]->root, stages[0]->domain.size()))
    return false;
  Value value = second.tensors.valueOf(second.outputs[0]);
  return value && belongsToProducts(value);
}

std::optional<Refusal> NestPolicy::check(const Candidate &merged,
                                         const Candidate &first,
                                         const Candidate &second) const {
  if (auto refusal = checkMembers(merged.members))
    return refusal;
  if (auto refusal = checkSize(merged))
    return refusal;
  if (multipliesNarrow() && !findContraction(merged.body) &&
      widensForProducts(second))
    return Refusal{Condition::Traffic,
                   "a product reads the narrow numbers as they are"};
  bool isContraction = false;
  if (auto refusal = checkContraction(merged, first, second, isContraction))
    return refusal;
  if (isContraction) // panels are transposed as they are filled
    return std::nullopt;
  if (auto refusal = checkLayout(merged, first, second))
    return refusal;
  return checkRows(merged, first, second);
}

bool NestPolicy::takesAttention(graph::KernelOp kernel,
                                std::string &reason) const {
  if (limits.formsEveryAttention)
    return true;
  if (!limits.readsPages)
    if (auto spec = classifyAttention(kernel, reason);
        succeeded(spec) && dlc::readsPages(*spec)) {
      reason = "nest: no pages, keys and values are gathered first";
      return false;
    }
  if (bestNest(kernel).nest == "attention")
    return true;
  if (auto spec = classifyAttention(kernel, reason); succeeded(spec))
    hasAttentionNest(*spec, reason);
  return false;
}

// Where products take numbers of 16 bits as they lie, rounded factors cost
// less; elsewhere a weight that is rounded needs its row's whole sum first. A
// GPU copies keys as they lie; in a CPU's loop, that waits for memory, a
// product with a number is free.
std::vector<graph::Law> NestPolicy::attentionLaws(Type narrow) const {
  if (!limits.reassociates)
    return {};
  std::vector<graph::Law> laws;
  if (limits.multipliesNarrow)
    laws.push_back(graph::Law::scale());
  if (narrow)
    laws.push_back(excess(narrow));
  return laws;
}

// A rounding takes a CPU two to ten instructions a vector, which a sum of few
// products does not hide. (A GPU has one.)
std::vector<graph::Law> NestPolicy::productLaws(Type narrow) const {
  if (!limits.reassociates || limits.multipliesNarrow || !narrow)
    return {};
  return {excess(narrow)};
}

graph::Law NestPolicy::excess(Type narrow) const {
  return graph::Law::excess(
      /*all=*/!limits.multipliesNarrow &&
      !(narrow.isBF16() && target.bf16FlopsPerCycle > 0));
}
