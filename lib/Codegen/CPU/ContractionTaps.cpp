// Filling of columns whose taps lie along the same image row: one set of loads,
// shifted in registers, for all of them.
#include "ContractionFactors.h"
#include "ContractionPanels.h"
#include "dlc/Schedule/OperandForm.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

std::optional<ColumnTaps> dlc::columnTaps(const ContractionSpec &spec,
                                          const ContractionOperand &factor,
                                          ArrayRef<unsigned> columns,
                                          unsigned lanes) {
  if ((!factor.plain && !factor.guarded) || columns.empty() ||
      spec.inner.empty())
    return std::nullopt;
  ColumnTaps taps;
  taps.factor = &factor;
  taps.column = columns.back();
  taps.tap = spec.inner.back();
  auto constantOf = [](AffineExpr expr) {
    return graph::constantValue(expr).value_or(0);
  };
  taps.step = constantOf(factor.strides[taps.column]);
  taps.distance = constantOf(factor.strides[taps.tap]);
  taps.count = constantOf(spec.space.extents[taps.tap]);
  if ((taps.step != 1 && taps.step != 2) || taps.distance < 1 ||
      taps.count < 2 || taps.elements(lanes) > ColumnTaps::mostVectors * lanes)
    return std::nullopt;
  for (const auto &[isEquality, guard] : factor.guards) {
    auto column = linearCoefficient(guard, taps.column);
    auto tap = linearCoefficient(guard, taps.tap);
    if (!column || !tap)
      return std::nullopt;
    auto along = graph::constantValue(*column),
         across = graph::constantValue(*tap);
    if (!along || !across)
      return std::nullopt;
    if (*along == 0 && *across == 0)
      continue;
    bool isOfElement = (*along == taps.step && *across == taps.distance) ||
                       (*along == -taps.step && *across == -taps.distance);
    if (isEquality || !isOfElement)
      return std::nullopt;
  }
  return taps;
}

std::optional<ColumnTaps> dlc::rowTaps(const ContractionSpec &spec,
                                       const ContractionSchedule &schedule,
                                       const CpuTarget &target) {
  if (!ScalarOptions::get(target, /*strict=*/false).maskedMemory ||
      schedule.group() != 1)
    return std::nullopt;
  return columnTaps(spec, spec.lhs, spec.rows, schedule.lanes);
}

bool dlc::sharesTaps(const ContractionSpec &spec,
                     const ContractionSchedule &schedule,
                     const CpuTarget &target) {
  auto taps = rowTaps(spec, schedule, target);
  if (!taps || !spec.lhs.plain)
    return taps && !spec.lhsGuardedRun().empty();
  // An image without padding has taps, too; those of a matrix share nothing.
  auto extent = graph::constantValue(spec.space.extents[taps->column]);
  return !extent || taps->distance < *extent;
}

bool dlc::fillsGroupSteps(const ContractionSpec &spec,
                          const ContractionSchedule &s) {
  if (s.form != ProductForm::ByteQuads || spec.rows.empty() ||
      !(spec.lhs.plain || spec.lhs.guarded) || !isUnconverted(spec, s.form) ||
      isStrided(spec, spec.lhs, spec.rows))
    return false;
  auto step = graph::constantValue(spec.lhs.strides[spec.rows.back()]),
       across = graph::constantValue(spec.lhs.strides[spec.inner.front()]);
  return step && across && (*step == 1 || *step == 2) && *step < *across;
}

void dlc::chooseRuns(ContractionSchedule &s, const ContractionSpec &spec,
                     const CpuTarget &target) {
  s.wholeSteps = s.wholeRows = false;
  if (s.lhs != FactorSource::Filled)
    return;
  bool hasRuns = target.desc().arch == "x86" && s.group() == 1;
  s.wholeSteps =
      fillsGroupSteps(spec, s) || (hasRuns && sharesTaps(spec, s, target));
  s.wholeRows = hasRuns && !s.wholeSteps && !spec.lhs.plain &&
                !spec.lhsGuardedRun().empty();
  if (s.wholeSteps)
    s.kBlock = s.group();
}

namespace {

class TapFiller {
public:
  TapFiller(PanelContext &c, const ColumnTaps &taps)
      : c(c), taps(taps), index(c.index), b(index.builder()), loc(index.loc()),
        lanes(c.schedule.lanes), memory(c.buffer(taps.factor->operand)) {
    stored = VectorType::get(
        {lanes}, cast<MemRefType>(memory.getType()).getElementType());
    type = VectorType::get({lanes},
                           ScalarEmitter::computeType(c.spec.accumulator));
    zeros = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
  }

  /// Stores each tap's vector of the `count` or more columns from the point of
  /// `c.axes` on at `target` + tap * `pitch`.
  void fill(Value count, Value panels, Value target, Value pitch);

private:
  /// The elements from the first one on that exist, [lower, upper).
  std::pair<Value, Value> interval(Value count);
  Value at(AffineExpr expr) { return index.expr(expr, c.axes, c.symbols); }
  /// Elements `shift` to `shift` + lanes of a row of vectors.
  Value shifted(ArrayRef<Value> row, int64_t shift);

  PanelContext &c;
  const ColumnTaps &taps;
  IndexBuilder &index;
  OpBuilder &b;
  Location loc;
  int64_t lanes;
  Value memory, zeros;
  VectorType stored, type; ///< elements in memory, and in panels
};

} // namespace

std::pair<Value, Value> TapFiller::interval(Value count) {
  Value lower;
  // What the last column's last tap reads is the last element.
  Value upper =
      index.add(index.mul(index.sub(count, index.constant(1)), taps.step),
                taps.distance * (taps.count - 1) + 1);
  Value inside;
  for (const auto &[isEquality, guard] : taps.factor->guards) {
    int64_t sign =
        *graph::constantValue(*linearCoefficient(guard, taps.column));
    Value first = at(guard); // of the first column's first tap
    if (sign > 0) {
      Value from = index.sub(index.constant(0), first);
      lower = lower ? index.max(lower, from) : from;
    } else if (sign < 0) {
      upper = index.min(upper, index.add(first, 1));
    } else {
      Value holds = arith::CmpIOp::create(
          b, loc,
          isEquality ? arith::CmpIPredicate::eq : arith::CmpIPredicate::sge,
          first, index.constant(0));
      inside =
          inside ? Value(arith::AndIOp::create(b, loc, inside, holds)) : holds;
    }
  }
  if (inside)
    upper = arith::SelectOp::create(b, loc, inside, upper, index.constant(0));
  // Masks count in 32 bits.
  auto clamp = [&](Value bound) {
    return index.min(index.max(bound, index.constant(0)),
                     index.constant(taps.elements(lanes)));
  };
  return {lower ? clamp(lower) : Value(), clamp(upper)};
}

Value TapFiller::shifted(ArrayRef<Value> row, int64_t shift) {
  int64_t first = shift / lanes, rest = shift % lanes;
  if (rest == 0)
    return row[first];
  SmallVector<int64_t> order;
  for (int64_t lane = 0; lane < lanes; ++lane)
    order.push_back(rest + lane);
  return vector::ShuffleOp::create(b, loc, type, row[first], row[first + 1],
                                   order);
}

void TapFiller::fill(Value count, Value panels, Value target, Value pitch) {
  Value from = at(addressOf(*taps.factor));
  auto [lower, upper] = interval(count);
  int64_t numElements = taps.elements(lanes);
  SmallVector<Value> loaded; // and widened, once for all taps
  Value nothing = arith::ConstantOp::create(b, loc, b.getZeroAttr(stored));
  for (int64_t first = 0; first < numElements; first += lanes) {
    Value passed = index.constant(first);
    Value exist =
        laneInterval(index, lower ? index.sub(lower, passed) : Value(),
                     index.sub(upper, passed), lanes);
    Value elements = vector::MaskedLoadOp::create(
        b, loc, stored, memory, index.add(from, first), exist, nothing);
    loaded.push_back(toAccumulator(c.expressions.scalars, elements,
                                   taps.factor->element, c.spec.accumulator));
  }
  // By remainder of an element's number by the step, those elements in a row.
  SmallVector<SmallVector<Value>> phases{loaded};
  if (taps.step == 2) {
    loaded.push_back(zeros);
    phases.assign(2, {});
    for (int64_t phase = 0; phase < 2; ++phase)
      for (size_t i = 0; i + 1 < loaded.size(); i += 2) {
        SmallVector<int64_t> order;
        for (int64_t lane = 0; lane < lanes; ++lane)
          order.push_back(2 * lane + phase);
        phases[phase].push_back(vector::ShuffleOp::create(
            b, loc, type, loaded[i], loaded[i + 1], order));
      }
  }
  for (SmallVector<Value> &phase : phases)
    phase.push_back(zeros);
  for (int64_t tap = 0; tap < taps.count; ++tap) {
    int64_t shift = tap * taps.distance;
    vector::StoreOp::create(
        b, loc, shifted(phases[shift % taps.step], shift / taps.step), panels,
        index.add(target, index.mul(pitch, tap)));
  }
}

void dlc::fillTaps(PanelContext &context, const ColumnTaps &taps, Value count,
                   Value panels, Value target, Value pitch) {
  TapFiller(context, taps).fill(count, panels, target, pitch);
}
