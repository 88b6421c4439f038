// Stages without a fold map blocks of the domain. Folds go one of two ways with
// one result: blocks of the domain that walk the reduce axes together, or one
// element at a time over blocks of the reduce axes.
#include "StageEvaluator.h"

#include "dlc/Dialect/Graph/IR/Folds.h"

#include <algorithm>
#include <numeric>
#include <thread>

using namespace mlir;
using namespace dlc;
using namespace dlc::interp;
using dlc::graph::FoldKind;

void StageTask::prepare() {
  auto add = [&](ArrayRef<AffineExpr> dims, SmallVectorImpl<unsigned> &axes,
                 int64_t &points) {
    for (AffineExpr d : dims) {
      axes.push_back(extents.size());
      extents.push_back(graph::evaluate(d, symbols));
      points *= extents.back();
    }
  };
  add(stage.getDomainDims(), domainAxes, domainPoints);
  add(stage.getReduceDims(), reduceAxes, reducePoints);
}

void interp::parallelFor(int64_t count, int64_t grain, unsigned threads,
                         llvm::function_ref<void(int64_t, int64_t)> fn) {
  int64_t parts =
      std::min<int64_t>(threads, count / std::max<int64_t>(grain, 1));
  if (parts <= 1)
    return fn(0, count);
  std::vector<std::thread> workers;
  for (int64_t p = 1; p < parts; ++p)
    workers.emplace_back(
        [=] { fn(count * p / parts, count * (p + 1) / parts); });
  fn(0, count / parts);
  for (std::thread &worker : workers)
    worker.join();
}

// Scalar operations below which a thread does not pay.
static constexpr int64_t kThreadWork = 1 << 18;

static int64_t domainGrain(const StageTask &task, const BodyProgram &program) {
  return std::max<int64_t>(
      kThreadWork / std::max<int64_t>(
                        task.reducePoints * program.getNumInstructions(), 1),
      1);
}

static void evaluateMap(StageTask &task, const BodyProgram &program,
                        Tensor &out) {
  char *bytes = out.getMutableBytes();
  parallelFor(task.domainPoints, domainGrain(task, program), task.threads,
              [&](int64_t begin, int64_t end) {
                BodyState state(program);
                PointBlock block(task.extents, task.domainAxes);
                for (int64_t first = begin; first < end; first += kBlock) {
                  int64_t count = std::min(kBlock, end - first);
                  block.select(first, count);
                  if (!state.run(block))
                    return;
                  storeLanes(program.getRootType(), state.getRoot(), count,
                             bytes, first);
                }
              });
}

// What an accumulator starts from, in every lane.
static void fillInit(StageTask &task, LaneType type, int64_t count, void *out) {
  if (task.stage.getInit())
    fillLanes(type, task.stage.getInitAttr(), count, out);
  else
    fillIdentity(type, task.stage.getFoldKind(), count, out);
}

// Each lane is a domain point; all walk the reduce axes together.
static void foldByDomain(StageTask &task, const BodyProgram &program,
                         Tensor &out) {
  char *bytes = out.getMutableBytes();
  FoldKind kind = task.stage.getFoldKind();
  LaneType type = program.getRootType();
  ApplyFn combine = getApplyFn(
      graph::combinerOf(kind).value_or(graph::ScalarFn::add), type, type);
  parallelFor(task.domainPoints, domainGrain(task, program), task.threads,
              [&](int64_t begin, int64_t end) {
                BodyState state(program);
                PointBlock block(task.extents, task.domainAxes);
                alignas(64) char accumulator[kBlock * sizeof(int64_t)];
                int64_t position[kBlock];
                for (int64_t first = begin; first < end; first += kBlock) {
                  int64_t count = std::min(kBlock, end - first);
                  block.select(first, count);
                  fillInit(task, type, count, accumulator);
                  std::fill_n(position, count, 0);
                  for (int64_t k = 0; k < task.reducePoints; ++k) {
                    block.setFixedPosition(task.reduceAxes, k);
                    if (!state.run(block))
                      return;
                    if (isArgFold(kind)) {
                      argStep(kind, type, state.getRoot(), k, count,
                              accumulator, position);
                      continue;
                    }
                    const void *args[2] = {accumulator, state.getRoot()};
                    combine(args, accumulator, count, task.math);
                    roundLanes(type, accumulator, count);
                  }
                  if (isArgFold(kind))
                    storeLanes(LaneType::i64, position, count, bytes, first);
                  else
                    storeLanes(type, accumulator, count, bytes, first);
                }
              });
}

// One domain point at a time; lanes are consecutive reduce points.
static void foldByReduce(StageTask &task, const BodyProgram &program,
                         Tensor &out) {
  char *bytes = out.getMutableBytes();
  FoldKind kind = task.stage.getFoldKind();
  LaneType type = program.getRootType();
  parallelFor(
      task.domainPoints, domainGrain(task, program), task.threads,
      [&](int64_t begin, int64_t end) {
        BodyState state(program);
        PointBlock block(task.extents, task.reduceAxes);
        for (int64_t point = begin; point < end; ++point) {
          block.setFixedPosition(task.domainAxes, point);
          alignas(8) char accumulator[sizeof(int64_t)];
          int64_t position = 0;
          fillInit(task, type, 1, accumulator);
          for (int64_t first = 0; first < task.reducePoints; first += kBlock) {
            int64_t count = std::min(kBlock, task.reducePoints - first);
            block.select(first, count);
            if (!state.run(block))
              return;
            if (isArgFold(kind))
              argSequence(kind, type, state.getRoot(), first, count,
                          accumulator, &position);
            else
              foldSequence(kind, type, state.getRoot(), count, accumulator);
          }
          if (isArgFold(kind))
            storeLane(LaneType::i64, &position, bytes, point);
          else
            storeLane(type, accumulator, bytes, point);
        }
      });
}

Tensor interp::evaluateStage(StageTask &task) {
  task.prepare();
  graph::StageOp stage = task.stage;
  for (int64_t extent : task.extents)
    if (extent < 0) {
      task.errors.report(stage.getLoc(),
                         "a dim has the negative size " + Twine(extent));
      return {};
    }
  if (!getLaneType(stage.getElementType())) {
    std::string type;
    llvm::raw_string_ostream(type) << stage.getElementType();
    task.errors.report(
        stage.getLoc(),
        "the interpreter does not compute with elements of type " + type);
    return {};
  }
  ArrayRef<int64_t> shape =
      ArrayRef<int64_t>(task.extents).take_front(task.domainAxes.size());
  Tensor out(stage.getElementType(), shape);
  FoldKind kind = stage.getFoldKind();
  if (kind != FoldKind::none && evaluateContraction(task, out))
    return out;
  bool byReduce =
      kind != FoldKind::none && task.reducePoints > task.domainPoints;
  ArrayRef<unsigned> running = byReduce ? task.reduceAxes : task.domainAxes;
  BodyProgram program(stage, stage.getYielded(), task.symbols, task.extents,
                      running.empty() ? -1 : running.back(), task.tensorOf,
                      task.math, task.errors);
  if (task.errors.failed())
    return out;
  if (auto combiner = graph::combinerOf(kind);
      combiner &&
      !getApplyFn(*combiner, program.getRootType(), program.getRootType())) {
    task.errors.report(stage.getLoc(),
                       "fold '" + graph::stringifyFoldKind(kind) +
                           "' has no meaning on this element type");
    return out;
  }
  if (kind == FoldKind::none)
    evaluateMap(task, program, out);
  else if (byReduce)
    foldByReduce(task, program, out);
  else
    foldByDomain(task, program, out);
  return out;
}
