// What of a contraction's surroundings is worth computing in its nest. What the
// nest can take is the nest's to say (Schedule/ContractionSpec.h): a kernel of
// the candidate is made and asked about.
#include "EmitKernel.h"
#include "PolicyCounts.h"

#include "dlc/Schedule/ContractionSpec.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;
using graph::ScalarFn;

// By axis of the stage: whether the expression at `root` reads anything by it.
static std::vector<bool> axesOf(const Stage &stage, unsigned root) {
  std::vector<bool> used(stage.numAxes());
  std::vector<bool> seen(stage.nodes.size());
  auto visit = [&](auto &&self, unsigned id) -> void {
    if (seen[id])
      return;
    seen[id] = true;
    const Node &node = stage.nodes[id];
    auto scan = [&](AffineExpr e) {
      e.walk([&](AffineExpr x) {
        if (auto dim = dyn_cast<AffineDimExpr>(x))
          if (dim.getPosition() < used.size())
            used[dim.getPosition()] = true;
      });
    };
    llvm::for_each(node.index, scan);
    llvm::for_each(node.guard, scan);
    node.forEachData([&](unsigned data) { self(self, data); });
    for (unsigned arg : node.args)
      self(self, arg);
  };
  visit(visit, root);
  return used;
}

bool fusion::isContraction(const Stage &stage) {
  const Node &root = stage.nodes[stage.root];
  if (stage.fold != graph::FoldKind::add || stage.init ||
      root.kind != Node::Apply ||
      static_cast<ScalarFn>(root.fn) != ScalarFn::mul)
    return false;
  std::vector<bool> left = axesOf(stage, root.args[0]),
                    right = axesOf(stage, root.args[1]);
  auto isWide = [](AffineExpr extent) {
    return graph::constantValue(extent) != 1;
  };
  // A sum of multiples of one factor is a reduction.
  unsigned inner = stage.domain.size();
  bool isReduction = false, sharesInner = false;
  for (auto [i, extent] : llvm::enumerate(stage.reduce)) {
    isReduction |= isWide(extent);
    sharesInner |= isWide(extent) && left[inner + i] && right[inner + i];
  }
  if (isReduction && !sharesInner)
    return false;
  for (auto [i, extent] : llvm::enumerate(stage.domain))
    if (left[i] != right[i] && isWide(extent))
      return true;
  return false;
}

bool fusion::hasOwnAxes(const Stage &sum) {
  const Node &root = sum.nodes[sum.root];
  std::vector<bool> left = axesOf(sum, root.args[0]),
                    right = axesOf(sum, root.args[1]);
  bool hasRows = false, hasColumns = false;
  for (auto [i, extent] : llvm::enumerate(sum.domain))
    if (graph::constantValue(extent) != 1) {
      hasRows |= left[i] && !right[i];
      hasColumns |= right[i] && !left[i];
    }
  return hasRows && hasColumns;
}

const Stage *fusion::findContraction(const Body &body) {
  for (const StageRef &stage : body.stages)
    if (isContraction(*stage))
      return stage.get();
  return nullptr;
}

double fusion::columnsOf(const Stage &sum, ArrayRef<int64_t> symbols) {
  const Node &root = sum.nodes[sum.root];
  std::vector<bool> left = axesOf(sum, root.args[0]),
                    right = axesOf(sum, root.args[1]);
  double columns = 1;
  int side = -1;
  for (size_t i = sum.domain.size(); i-- > 0;) {
    if (graph::constantValue(sum.domain[i]) == 1)
      continue;
    int here = left[i] && !right[i] ? 0 : right[i] && !left[i] ? 1 : 2;
    side = side < 0 ? here : side;
    if (here != side || here == 2)
      break;
    columns *= sizeOf(sum.domain[i], symbols);
  }
  return columns;
}

//===----------------------------------------------------------------------===//
// Asking
//===----------------------------------------------------------------------===//

namespace {
/// What the nest makes of a candidate.
struct Form {
  std::string reason;   ///< why it does not take it; empty: it does
  bool inPlace[2] = {}; ///< lhs, rhs: read as they lie, perhaps guarded
  bool guarded[2] = {};
  double rows = 1, columns = 1, outer = 1, depth = 1;
};
} // namespace

static bool isConstant(TensorId tensor, const TensorTable &tensors) {
  Value value = tensors.valueOf(tensors.baseOf(tensor));
  return value && value.getDefiningOp<graph::ConstantOp>();
}

static Form ask(const Body &body, ArrayRef<TensorId> outputs,
                const TensorTable &tensors, ArrayRef<int64_t> symbols,
                bool multipliesNarrow) {
  MLIRContext *context = body.stages.front()->type.getContext();
  OpBuilder builder(context);
  OwningOpRef<graph::KernelOp> kernel =
      emitKernel(builder, UnknownLoc::get(context), body, body.operands(),
                 outputs, tensors);
  Form form;
  auto spec = classifyContraction(*kernel, form.reason);
  if (failed(spec))
    return form;
  form.reason.clear();
  const ContractionOperand *factors[] = {&spec->lhs, &spec->rhs};
  for (int side : {0, 1}) {
    form.inPlace[side] = factors[side]->plain || factors[side]->guarded;
    form.guarded[side] = factors[side]->guarded;
  }
  if (multipliesNarrow) {
    // Narrow numbers are multiplied as they lie; a right factor of constants is
    // computed a panel at a time.
    if (spec->narrow)
      form.inPlace[0] = form.inPlace[1] = true;
    bool isComputed = !spec->rhs.plain && !spec->rhsLoads.empty();
    std::vector<TensorId> operands = body.operands();
    bool areConstants =
        llvm::all_of(spec->rhsLoads, [&](const ContractionOperand &load) {
          return isConstant(operands[load.operand], tensors);
        });
    form.inPlace[1] |= isComputed && areConstants;
    if (isComputed && !form.inPlace[1] && spec->rows.empty())
      form.reason = "one row uses a matrix that is computed";
  }
  auto size = [&](ArrayRef<unsigned> group) {
    double size = 1;
    for (unsigned axis : group)
      size *= sizeOf(spec->space.extents[axis], symbols);
    return size;
  };
  form.rows = size(spec->rows), form.columns = size(spec->columns);
  form.outer = size(spec->outer), form.depth = size(spec->inner);
  return form;
}

// The sum by itself, as it was before anything was put around it.
static Form askAlone(const StageRef &sum, const Candidate &candidate,
                     bool multipliesNarrow) {
  Body body;
  body.stages.push_back(sum);
  return ask(body, {sum->result}, candidate.tensors, candidate.symbols,
             multipliesNarrow);
}

static const StageRef &refOf(const Body &body, const Stage *stage) {
  return *llvm::find_if(
      body.stages, [&](const StageRef &ref) { return ref.get() == stage; });
}

// All stages are computed at the points of the sum, which is as it was: the
// nest takes that, and need not be asked.
static bool isPlainEpilogue(const Candidate &merged, const Stage &sum) {
  auto isOwn = [&](const Stage &stage, const Node &node) {
    if (!node.guard.empty())
      return false;
    for (auto [i, at] : llvm::enumerate(node.index)) {
      auto dim = dyn_cast<AffineDimExpr>(at);
      bool isOnly = graph::constantValue(at) == 0 &&
                    graph::constantValue(stage.domain[i]) == 1;
      if (!isOnly && (!dim || dim.getPosition() != i))
        return false;
    }
    return true;
  };
  for (const StageRef &stage : merged.body.stages) {
    if (stage.get() == &sum)
      continue;
    if (stage->isFold() || stage->domain != sum.domain)
      return false;
    for (const Node &node : stage->nodes)
      if (node.kind == Node::ToIndex ||
          (node.kind == Node::Load && merged.body.find(node.tensor) &&
           !isOwn(*stage, node)))
        return false;
  }
  return merged.body.stages.front().get() == &sum;
}

//===----------------------------------------------------------------------===//
// The policy
//===----------------------------------------------------------------------===//

// Of a step of the sum, with the stages that are read into its factors.
static double factorWeight(const Body &body, const Stage &sum) {
  double weight = 0;
  for (const StageRef &stage : body.stages) {
    for (const Node &node : stage->nodes)
      weight += weightOf(node);
    if (stage.get() == &sum)
      break;
  }
  return weight;
}

// C-RECOMPUTE of a factor that was read in place and would be computed as it is
// filled: again for each element of the outer axes that do not move it, for
// each tap of a window, and for each task along the other factor.
static double repeatedWork(const Form &form, int side, double weight,
                           const Candidate &producer, unsigned cores,
                           ArrayRef<int64_t> symbols) {
  double filled =
      form.outer * (side == 0 ? form.rows : form.columns) * form.depth;
  double tasks = 1;
  if (cores > 1) {
    double work = 2 * form.outer * form.rows * form.columns * form.depth;
    // No task has less than a tile of the other factor.
    constexpr double tileRows = 14, tileColumns = 32;
    tasks = std::clamp(work / 2e6, 1.0, side == 0 ? 4.0 * cores : cores);
    tasks = std::min(tasks / form.outer, side == 0 ? form.columns / tileColumns
                                                   : form.rows / tileRows);
    tasks = std::max(1.0, tasks);
  }
  double once = pointsOf(producer.body.stages.back()->domain, symbols);
  return weight * std::max(0.0, filled * tasks - once);
}

std::optional<Refusal> NestPolicy::checkContraction(const Candidate &merged,
                                                    const Candidate &first,
                                                    const Candidate &second,
                                                    bool &isTaken) const {
  isTaken = false;
  const Stage *sum = findContraction(merged.body);
  const Stage *before = findContraction(first.body);
  const Stage *after = findContraction(second.body);
  if (!sum && !before && !after)
    return std::nullopt;
  auto refuse = [](const Twine &reason) {
    return Refusal{Condition::Size, reason.str()};
  };
  if (before && after)
    return refuse("two contractions");
  const Stage *original = before ? before : after;
  if (sum && sum == original && isPlainEpilogue(merged, *sum)) {
    // Loops of other nests run it at most as fast, whoever takes it.
    isTaken = askAlone(refOf(merged.body, sum), merged, multipliesNarrow())
                  .reason.empty();
    return std::nullopt;
  }
  Form was;
  if (original) {
    const Candidate &part = before ? first : second;
    was = ask(part.body, part.outputs, part.tensors, part.symbols,
              multipliesNarrow());
  }
  bool wasTaken = original && was.reason.empty();
  if (!sum)
    return wasTaken ? std::optional(refuse("the contraction would be none"))
                    : std::nullopt;
  Form form = ask(merged.body, merged.outputs, merged.tensors, merged.symbols,
                  multipliesNarrow());
  if (!form.reason.empty())
    return wasTaken ? std::optional(refuse("the contraction nest does not take "
                                           "it: " +
                                           form.reason))
                    : std::nullopt;
  isTaken = true;
  if (!wasTaken)
    return std::nullopt; // a better nest than it had
  // Narrow columns, by a transpose for instance, leave lanes idle.
  if (form.columns < 16 && form.columns < was.columns)
    return Refusal{Condition::Layout,
                   "the sums would have " +
                       std::to_string(static_cast<int64_t>(form.columns)) +
                       " columns"};
  // A factor is filled again for every block of the other one that fits the
  // cache: an exponential in it is felt (GELU before a product of 128 x 3072 by
  // 768: 1.7 times the time of GELU after the product before it).
  constexpr double cheapWeight = 12;
  double weight = factorWeight(merged.body, *sum);
  if (after && !(form.inPlace[0] && form.inPlace[1]) && weight > cheapWeight &&
      weight > factorWeight(second.body, *after))
    return Refusal{Condition::Recompute,
                   "a factor would be computed again for every block"};
  // Images of 16-bit floats will be stored as float32 and read where they lie
  // (lib/Layout).
  if (Type image = imageOfConvolutions(first);
      after && limits.relaysImages && image &&
      (image.isF16() || image.isBF16()) && weight > 0)
    return Refusal{Condition::Recompute,
                   "a factor would be computed again for every block"};
  double repeated = 0;
  for (int side : {0, 1}) {
    if (form.inPlace[side] || !was.inPlace[side])
      continue;
    if (was.guarded[side])
      return Refusal{Condition::Layout, "guarded rows would be computed"};
    repeated +=
        repeatedWork(form, side, weight, first, target.cores, merged.symbols);
    // Few rows, and rows of a left factor, are read where they lie; many rows
    // of a left factor would be filled for every block of columns.
    constexpr double fewRows = 42;
    if (side == 0 && form.rows > fewRows)
      return Refusal{Condition::Recompute,
                     "a factor would be computed again for every block"};
    if (side == 0 || form.rows <= fewRows)
      repeated +=
          2 * form.outer * form.depth * (side == 0 ? form.rows : form.columns);
  }
  if (repeated > 0) {
    // A fill is more code in the way of the sums: it has to be worth it.
    constexpr double least = 0.05;
    double all = getSeconds(merged),
           saved = getSeconds(first) + getSeconds(second) - all;
    if (cost.getSeconds(KernelWork{repeated, 0}, target) + least * all > saved)
      return Refusal{Condition::Recompute,
                     "a factor would be computed again for every tile"};
  }
  for (int side : {0, 1})
    if (form.guarded[side] && !was.guarded[side] && !before)
      return Refusal{Condition::Layout, "pixels would be gathered by strides"};
  return std::nullopt;
}
