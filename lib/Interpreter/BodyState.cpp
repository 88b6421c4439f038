// Evaluation of a body at a block of points.
#include "BodyProgram.h"

#include <algorithm>

using namespace mlir;
using namespace dlc;
using namespace dlc::interp;

BodyState::BodyState(const BodyProgram &program)
    : program(program),
      storage(new char[program.instructions.size() * kBlock * sizeof(int64_t)]),
      axisLanes(program.extents.size()),
      axisReady(program.extents.size(), false) {
  for (auto [i, instruction] : llvm::enumerate(program.instructions))
    if (instruction.kind == BodyProgram::Kind::Literal)
      fillLanes(instruction.type,
                cast<graph::LiteralOp>(instruction.op).getValueAttr(), kBlock,
                lanesOf(i));
}

// The lanes of an iteration axis (made when first asked for) or of a data
// coordinate.
const int64_t *BodyState::dim(unsigned d) {
  if (d >= axisLanes.size())
    return reinterpret_cast<const int64_t *>(
        lanesOf(program.dataCoords[d - axisLanes.size()]));
  if (!axisLanes[d])
    axisLanes[d].reset(new int64_t[kBlock]);
  if (!axisReady[d]) {
    block->fillAxis(d, axisLanes[d].get());
    axisReady[d] = true;
  }
  return axisLanes[d].get();
}

bool BodyState::run(const PointBlock &points) {
  assert(points.getNumLanes() <= kBlock && "block too large");
  block = &points;
  std::fill(axisReady.begin(), axisReady.end(), false);
  int64_t count = points.getNumLanes();
  for (auto [i, instruction] : llvm::enumerate(program.instructions)) {
    char *out = lanesOf(i);
    switch (instruction.kind) {
    case BodyProgram::Kind::Load:
      runLoad(instruction, out);
      break;
    case BodyProgram::Kind::Apply: {
      const void *args[3];
      for (auto [k, arg] : llvm::enumerate(instruction.args))
        args[k] = lanesOf(arg);
      instruction.apply(args, out, count, program.math);
      roundLanes(instruction.type, out, count);
      break;
    }
    case BodyProgram::Kind::Cast:
      instruction.cast(lanesOf(instruction.args[0]), out, count);
      break;
    case BodyProgram::Kind::Literal:
      break;
    case BodyProgram::Kind::Coord:
      instruction.index.lanes([&](unsigned d) { return dim(d); }, count,
                              reinterpret_cast<int64_t *>(out));
      break;
    case BodyProgram::Kind::Inside:
      evaluateGuards(instruction.inside, reinterpret_cast<bool *>(out));
      break;
    case BodyProgram::Kind::ToIndex:
      runToIndex(instruction, out);
      break;
    }
  }
  return !program.errors.failed();
}

// The part of 0 .. length-1 where value + i * step >= 0.
static void clip(int64_t value, int64_t step, int64_t &low, int64_t &high) {
  if (step == 0)
    high = value >= 0 ? high : low;
  else if (step > 0)
    low = value >= 0 ? low : std::max(low, (-value + step - 1) / step);
  else
    high = value < 0 ? low : std::min(high, value / -step + 1);
}

void BodyState::runLoad(const BodyProgram::Instruction &instruction,
                        char *out) {
  const BodyProgram::Load &load = *instruction.load;
  if (!load.byRuns)
    return runLoadByLanes(instruction, out);
  int64_t bytes = laneBytes(instruction.type),
          elements = load.tensor.getNumElements();
  const char *other = load.other < 0 ? nullptr : lanesOf(load.other);
  for (auto [r, run] : llvm::enumerate(block->getRuns())) {
    ArrayRef<int64_t> coords = block->getCoords(r);
    int64_t low = 0, high = run.length;
    for (const BodyProgram::Guard &guard : load.guards) {
      int64_t value = guard.expr.at(coords);
      if (guard.isEquality)
        high = value == 0 ? high : low;
      else
        clip(value, *guard.step, low, high);
    }
    high = std::max(low, high);
    char *to = out + run.lane * bytes;
    if (low > 0)
      std::memcpy(to, other + run.lane * bytes,
                  std::min(low, run.length) * bytes);
    if (high < run.length && high >= low)
      std::memcpy(to + std::min(high, run.length) * bytes,
                  other + (run.lane + std::min(high, run.length)) * bytes,
                  (run.length - std::min(high, run.length)) * bytes);
    if (low >= high)
      continue;
    int64_t first = load.offset.at(coords) + low * *load.step,
            last = first + (high - low - 1) * *load.step;
    if (std::min(first, last) < 0 || std::max(first, last) >= elements) {
      program.errors.report(instruction.op->getLoc(),
                            "kernel reads outside its operand " +
                                describe(load.tensor));
      return;
    }
    loadLanes(instruction.type, load.tensor.getBytes(), first, *load.step,
              high - low, to + low * bytes);
  }
}

// inside[i] = every guard holds in lane i.
void BodyState::evaluateGuards(ArrayRef<BodyProgram::Guard> guards,
                               bool *inside) {
  int64_t count = block->getNumLanes(), value[kBlock];
  std::fill_n(inside, count, true);
  for (const BodyProgram::Guard &guard : guards) {
    guard.expr.lanes([this](unsigned d) { return dim(d); }, count, value);
    for (int64_t i = 0; i < count; ++i)
      inside[i] &= guard.isEquality ? value[i] == 0 : value[i] >= 0;
  }
}

void BodyState::runLoadByLanes(const BodyProgram::Instruction &instruction,
                               char *out) {
  const BodyProgram::Load &load = *instruction.load;
  int64_t count = block->getNumLanes();
  auto lanes = [this](unsigned d) { return dim(d); };
  bool inside[kBlock];
  evaluateGuards(load.guards, inside);
  int64_t value[kBlock], offset[kBlock];
  std::fill_n(offset, count, 0);
  for (auto [k, index] : llvm::enumerate(load.index)) {
    index.lanes(lanes, count, value);
    int64_t size = load.tensor.getShape()[k], stride = load.strides[k];
    for (int64_t i = 0; i < count; ++i) {
      if (inside[i] && (value[i] < 0 || value[i] >= size)) {
        program.errors.report(instruction.op->getLoc(),
                              "kernel reads outside its operand: coordinate " +
                                  Twine(k) + " takes " + Twine(value[i]) +
                                  " of " + describe(load.tensor));
        return;
      }
      offset[i] += value[i] * stride;
    }
  }
  if (load.other >= 0)
    std::memcpy(out, lanesOf(load.other), count * laneBytes(instruction.type));
  for (int64_t i = 0; i < count; ++i)
    offset[i] = inside[i] ? offset[i] : -1;
  gatherLanes(instruction.type, load.tensor.getBytes(), offset, count, out);
}

void BodyState::runToIndex(const BodyProgram::Instruction &instruction,
                           char *out) {
  auto *from = reinterpret_cast<const int64_t *>(lanesOf(instruction.args[0]));
  auto *to = reinterpret_cast<int64_t *>(out);
  int64_t size = instruction.size;
  for (int64_t i = 0, count = block->getNumLanes(); i < count; ++i) {
    int64_t value = from[i];
    if (value < -size || value >= size) {
      program.errors.report(instruction.op->getLoc(),
                            "index " + Twine(value) +
                                " is out of range for a dim of size " +
                                Twine(size));
      return;
    }
    to[i] = value < 0 ? value + size : value;
  }
}
