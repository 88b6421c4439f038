// Winograd's filtering of 3 x 3 convolutions. A task takes some tiles of m x m
// outputs through three steps, each in scratch that stays in the second-level
// cache:
//
//   V[xi][tile][channel]  = B^T d B of the tile's pixels     filling of lhs
//   M[xi][tile][filter]   = sum over channels of V * U[xi]   the micro-kernel
//   y[pixel][filter]      = A^T M A, then the epilogue
//
// U = G g G^T is made when the model is compiled, in panels of rhs. The
// matrices are those of the kernel's claim.
#include "ContractionTask.h"
#include "dlc/Codegen/CPU/ContractionNest.h"
#include "dlc/Codegen/Common/CpuLowering.h"
#include "dlc/Schedule/Winograd.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <array>

using namespace mlir;

namespace dlc {

class WinogradTask {
public:
  WinogradTask(const WinogradForm &form, const WinogradClaim &claim,
               const ContractionSchedule &schedule, const CpuTarget &target,
               const CpuCodegenOptions &options)
      : form(form), claim(claim), s(schedule), target(target), options(options),
        task(form.spec, schedule, target, options) {}

  FailureOr<CpuKernel> emit(std::string &reason);

private:
  void plan(CpuKernel &result);
  void packFilters(CpuKernel &result);
  void fillTiles();
  void fillTile(Value tile, Value row, Value column, Value image,
                bool isInside);
  void multiply();
  void finishTiles();

  using Vectors = SmallVector<Value>;
  /// matrix (`rows` x `columns`) times a column of vectors.
  Vectors combine(ArrayRef<int64_t> matrix, int64_t rows, int64_t columns,
                  const Vectors &values);
  Value at(Value base, int64_t offset) { return index().add(base, offset); }
  IndexBuilder &index() { return *task.index; }
  OpBuilder &b() { return task.function->builder(); }
  Location loc() { return task.function->loc(); }
  /// Tile, pixel's row and column, and image of the t-th tile of the task.
  struct Place {
    Value image, row, column;
  };
  Place placeOf(Value tile);

  const WinogradForm &form;
  const WinogradClaim &claim;
  const ContractionSchedule &s;
  const CpuTarget &target;
  const CpuCodegenOptions &options;
  ContractionTask task;

  int64_t n = 0, points = 0; ///< m + 2, and its square
  int64_t tilesDown = 0, tilesAcross = 0, numTiles = 0;
  int64_t tilesPerTask = 0, filtersPerTask = 0;
  unsigned tileRows = 1, vectors = 1; ///< of the register tile
  /// Elements from one tile to the next, and from one xi to the next.
  int64_t inputPitch = 0, inputPlane = 0, sumPitch = 0, sumPlane = 0;
  Value firstTile, firstFilter;
  Value inputs, sums, pixels; ///< scratch
};

} // namespace dlc

using namespace dlc;

/// Cuts tiles into tasks: what a task holds stays in the second-level cache.
void WinogradTask::plan(CpuKernel &result) {
  int64_t m = claim.tile;
  n = claim.size();
  points = n * n;
  tilesDown = llvm::divideCeil(form.rows, m);
  tilesAcross = llvm::divideCeil(form.columns, m);
  numTiles = form.images * tilesDown * tilesAcross;
  // The widest panel of a register tile that leaves most of the registers to
  // sums.
  vectors = s.panelVectors;
  int64_t registers = target.desc().vectorRegisters;
  int64_t most = std::max<int64_t>((registers - vectors - 1) / vectors, 1);
  filtersPerTask = form.filters;
  int64_t cores = target.desc().cores, panel = s.panelColumns();
  int64_t bytes = points * (form.channels + form.filters) * 4;
  // Filters that fit stay there too.
  int64_t l2 = target.desc().l2Bytes,
          filterBytes = points * form.channels * form.filters * 4;
  int64_t budget = l2 * 3 / 4 - (filterBytes <= l2 / 2 ? filterBytes : 0);
  int64_t fits = std::max<int64_t>(budget / bytes, 1);
  int64_t parts = llvm::divideCeil(numTiles, std::max(fits, most));
  parts = std::max<int64_t>(
      parts, std::min<int64_t>(cores, llvm::divideCeil(numTiles, 2 * most)));
  tilesPerTask = llvm::divideCeil(numTiles, parts);
  parts = llvm::divideCeil(numTiles, tilesPerTask);
  // Few tiles: the filters are shared out too, each with its own copy of V.
  int64_t split = cores / std::max<int64_t>(parts, 1);
  while (split > 1 && form.filters % (split * panel) != 0)
    --split;
  if (split > 1)
    filtersPerTask = form.filters / split;
  tileRows =
      llvm::divideCeil(tilesPerTask, llvm::divideCeil(tilesPerTask, most));
  // Where one register tile holds all tiles, filters pass once: they come from
  // afar while all of the products are computed.
  if (tilesPerTask > most && tilesPerTask + 3 <= registers) {
    vectors = 1;
    tileRows = tilesPerTask;
  }
  result.phases.push_back(
      {options.symbol,
       getAffineConstantExpr(parts * (form.filters / filtersPerTask),
                             form.spec.context())});
  // Tiles whose distance is a multiple of a page share cache sets.
  auto spread = [&](int64_t elements) {
    return elements * 4 % 4096 == 0 ? elements + 16 : elements;
  };
  int64_t lanes = s.lanes, width = int64_t(vectors) * lanes;
  inputPitch = spread(llvm::alignTo(form.channels, lanes));
  inputPlane = spread(inputPitch * tilesPerTask);
  sumPitch = spread(llvm::alignTo(filtersPerTask, width));
  sumPlane = spread(sumPitch * tilesPerTask);
  int64_t scratch = points * (inputPlane + sumPlane) + m * m * width;
  result.scratchBytes = getAffineConstantExpr(llvm::alignTo(scratch * 4, 64),
                                              form.spec.context());
}

void WinogradTask::packFilters(CpuKernel &result) {
  const ContractionSpec &spec = form.spec;
  auto stride = [&](unsigned axis) {
    return *graph::constantValue(spec.rhs.strides[axis]);
  };
  int64_t base = *graph::constantValue(spec.rhs.base);
  int64_t steps[4] = {stride(spec.inner[0]), stride(spec.inner[1]),
                      stride(spec.inner[2]), stride(spec.columns[0])};
  PackedLayout layout;
  layout.panel = int64_t(vectors) * s.lanes;
  int64_t channels = form.channels, filters = form.filters;
  for (int64_t xi = 0; xi < points; ++xi)
    layout.batch.push_back(xi * channels * filters);
  for (int64_t k = 0; k < filters; ++k)
    layout.major.push_back(k);
  for (int64_t c = 0; c < channels; ++c)
    layout.inner.push_back(c * filters);
  task.rhsLayout = layout;
  OperandPacking packing;
  packing.operand = spec.rhs.operand;
  packing.layout = "winograd" + std::to_string(claim.tile) + " " +
                   layout.str() + " from " + std::to_string(base);
  for (int64_t step : steps)
    packing.layout += " " + std::to_string(step);
  packing.bytes = layout.bytes();
  packing.pack = [layout, claim = claim, base, steps = std::to_array(steps),
                  channels, filters](ArrayRef<char> constant,
                                     MutableArrayRef<char> packed) {
    const auto *weights = reinterpret_cast<const float *>(constant.data());
    int64_t n = claim.size(), pairs = channels * filters;
    std::vector<float> transformed(n * n * pairs);
    std::vector<double> half(n * 3);
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t k = 0; k < filters; ++k) {
        const float *g = weights + base + c * steps[2] + k * steps[3];
        double scale = 1.0 / double(claim.denominator);
        for (int64_t xi = 0; xi < n; ++xi)
          for (int64_t j = 0; j < 3; ++j) {
            double sum = 0;
            for (int64_t i = 0; i < 3; ++i)
              sum += double(claim.filter[xi * 3 + i]) *
                     double(g[i * steps[0] + j * steps[1]]);
            half[xi * 3 + j] = sum * scale;
          }
        for (int64_t xi = 0; xi < n; ++xi)
          for (int64_t nu = 0; nu < n; ++nu) {
            double sum = 0;
            for (int64_t j = 0; j < 3; ++j)
              sum += double(claim.filter[nu * 3 + j]) * half[xi * 3 + j];
            transformed[(xi * n + nu) * pairs + c * filters + k] =
                float(sum * scale);
          }
      }
    layout.pack({reinterpret_cast<const char *>(transformed.data()),
                 transformed.size() * sizeof(float)},
                packed);
  };
  result.packings.push_back(std::move(packing));
}

WinogradTask::Vectors WinogradTask::combine(ArrayRef<int64_t> matrix,
                                            int64_t rows, int64_t columns,
                                            const Vectors &values) {
  Type type = values.front().getType();
  Vectors results;
  for (int64_t i = 0; i < rows; ++i) {
    ArrayRef<int64_t> row = matrix.slice(i * columns, columns);
    // A term of factor 1 costs nothing to begin with.
    SmallVector<int64_t> order;
    for (bool isOne : {true, false})
      for (int64_t j = 0; j < columns; ++j)
        if (row[j] && (row[j] == 1) == isOne)
          order.push_back(j);
    Value sum;
    for (int64_t j : order) {
      Value x = values[j];
      if (!sum && row[j] == 1) {
        sum = x;
        continue;
      }
      if (sum && row[j] == 1) {
        sum = arith::AddFOp::create(b(), loc(), sum, x);
        continue;
      }
      if (sum && row[j] == -1) {
        sum = arith::SubFOp::create(b(), loc(), sum, x);
        continue;
      }
      Value factor = arith::ConstantOp::create(
          b(), loc(),
          DenseElementsAttr::get(cast<VectorType>(type), float(row[j])));
      if (sum && task.scalarOptions.fma)
        sum = math::FmaOp::create(b(), loc(), factor, x, sum);
      else if (Value product = arith::MulFOp::create(b(), loc(), factor, x);
               sum)
        sum = arith::AddFOp::create(b(), loc(), sum, product);
      else
        sum = product;
    }
    if (!sum)
      sum = arith::ConstantOp::create(b(), loc(), b().getZeroAttr(type));
    results.push_back(sum);
  }
  return results;
}

WinogradTask::Place WinogradTask::placeOf(Value tile) {
  SmallVector<Value> at = index().delinearize(
      tile, {index().constant(form.images), index().constant(tilesDown),
             index().constant(tilesAcross)});
  return {at[0], index().mul(at[1], claim.tile),
          index().mul(at[2], claim.tile)};
}

//===----------------------------------------------------------------------===//
// The steps
//===----------------------------------------------------------------------===//

/// V of one tile whose first pixel is at (row, column) of the image. Where it
/// reaches beyond the image, pixels are zeros that nobody reads.
void WinogradTask::fillTile(Value tile, Value row, Value column, Value image,
                            bool isInside) {
  int64_t lanes = s.lanes;
  auto type = VectorType::get({lanes}, b().getF32Type());
  auto maskType = VectorType::get({lanes}, b().getI1Type());
  Value memory = task.function->buffer(form.spec.lhs.operand);
  Value zero = index().constant(0);
  // By line and by column: the lanes that exist there, all or none.
  SmallVector<Value> isThere[2];
  for (int axis : {0, 1})
    for (int64_t i = 0; i < n && !isInside; ++i) {
      Value place = at(axis ? column : row, i);
      Value size = index().constant(axis ? form.imageColumns : form.imageRows);
      isThere[axis].push_back(arith::AndIOp::create(
          b(), loc(), index().atLeast(place, zero), index().less(place, size)));
    }
  Value origin =
      index().add(index().mul(image, form.imageStride),
                  index().add(index().mul(row, form.rowStride),
                              index().mul(column, form.columnStride)));
  index().forEach(zero, index().constant(form.channels), lanes, [&](Value c) {
    Value zeros = arith::ConstantOp::create(b(), loc(), b().getZeroAttr(type));
    Value count = form.channels % lanes == 0
                      ? index().constant(lanes)
                      : index().sub(index().constant(form.channels), c);
    auto load = [&](int64_t i, int64_t j) -> Value {
      Value address = at(index().add(origin, c),
                         i * form.rowStride + j * form.columnStride);
      if (isInside && form.channels % lanes == 0)
        return vector::LoadOp::create(b(), loc(), type, memory, address);
      Value valid = count;
      if (!isInside) {
        Value both =
            arith::AndIOp::create(b(), loc(), isThere[0][i], isThere[1][j]);
        valid = arith::SelectOp::create(b(), loc(), both, count, zero);
      }
      Value mask = vector::CreateMaskOp::create(b(), loc(), maskType, valid);
      return vector::MaskedLoadOp::create(b(), loc(), type, memory, address,
                                          mask, zeros);
    };
    // Columns first: B^T d, then (B^T d) B.
    std::vector<Vectors> halves;
    for (int64_t j = 0; j < n; ++j) {
      Vectors line;
      for (int64_t i = 0; i < n; ++i)
        line.push_back(load(i, j));
      halves.push_back(combine(claim.input, n, n, line));
    }
    Value to = index().add(index().mul(tile, inputPitch), c);
    for (int64_t xi = 0; xi < n; ++xi) {
      Vectors line;
      for (int64_t j = 0; j < n; ++j)
        line.push_back(halves[j][xi]);
      for (auto [nu, value] : llvm::enumerate(combine(claim.input, n, n, line)))
        vector::StoreOp::create(b(), loc(), value, inputs,
                                at(to, (xi * n + int64_t(nu)) * inputPlane));
    }
  });
}

void WinogradTask::fillTiles() {
  Value last = index().constant(numTiles - 1), zero = index().constant(0);
  index().forEach(zero, index().constant(tilesPerTask), 1, [&](Value t) {
    // What is left over repeats the last tile.
    Place place = placeOf(index().min(index().add(firstTile, t), last));
    Value row = at(place.row, claim.offset[0]),
          column = at(place.column, claim.offset[1]);
    auto fits = [&](Value from, int64_t size) -> Value {
      return arith::AndIOp::create(
          b(), loc(), index().atLeast(from, zero),
          index().atLeast(index().constant(size - n), from));
    };
    auto branch = scf::IfOp::create(
        b(), loc(),
        arith::AndIOp::create(b(), loc(), fits(row, form.imageRows),
                              fits(column, form.imageColumns)),
        /*withElse=*/true);
    OpBuilder::InsertionGuard guard(b());
    b().setInsertionPointToStart(branch.thenBlock());
    fillTile(t, row, column, place.image, /*isInside=*/true);
    b().setInsertionPointToStart(branch.elseBlock());
    fillTile(t, row, column, place.image, /*isInside=*/false);
  });
}

/// A product of matrices for each xi, by the contraction's register tiles.
void WinogradTask::multiply() {
  int64_t width = int64_t(vectors) * s.lanes, depth = form.channels;
  TileParams params;
  params.accumulator = params.lhsType = params.rhsType = b().getF32Type();
  params.kBlock = 1;
  params.lhsRow = index().constant(inputPitch);
  params.lhsBlock = index().constant(1);
  params.panelVectors = vectors;
  params.rhsStep = index().constant(width);
  params.rhsPanel = index().constant(depth * width);
  params.rhsColumn = index().constant(1);
  params.maskOut = false;
  params.outRow = index().constant(sumPitch);
  params.lanes = s.lanes;
  params.unroll = s.unroll;
  params.fma = s.fma;
  params.scalar = task.scalarOptions;
  // Filters that few rows use come from afar.
  if (tilesPerTask <= 2 * int64_t(tileRows))
    params.prefetch = 32 / vectors;
  task.tiles.emplace(*task.module, options.symbol, params);
  Value filters = task.function->buffer(form.spec.rhs.operand);
  Value zero = index().constant(0);
  auto product = [&](Value xi, Value column, unsigned numVectors, Value row,
                     unsigned rows) {
    Value from =
        index().add(index().mul(xi, inputPlane), index().mul(row, inputPitch));
    Value weights =
        index().add(index().mul(xi, task.rhsLayout.batchElements()),
                    index().mul(index().add(firstFilter, column), depth));
    Value to = index().add(
        index().add(index().mul(xi, sumPlane), index().mul(row, sumPitch)),
        column);
    TileShape shape;
    shape.rows = rows;
    shape.vectors = numVectors;
    task.tiles->call(index(), shape, {index().constant(depth), Value()}, inputs,
                     from, filters, weights, sums, to,
                     index().constant(int64_t(numVectors) * s.lanes));
  };
  auto rowsOf = [&](Value xi, Value column, unsigned numVectors) {
    int64_t whole = tilesPerTask / tileRows * tileRows;
    index().forEach(zero, index().constant(whole), tileRows, [&](Value row) {
      product(xi, column, numVectors, row, tileRows);
    });
    if (whole < tilesPerTask)
      product(xi, column, numVectors, index().constant(whole),
              tilesPerTask - whole);
  };
  index().forEach(zero, index().constant(points), 1, [&](Value xi) {
    int64_t whole = filtersPerTask / width * width;
    index().forEach(zero, index().constant(whole), width,
                    [&](Value column) { rowsOf(xi, column, vectors); });
    if (whole < filtersPerTask)
      rowsOf(xi, index().constant(whole),
             llvm::divideCeil(filtersPerTask - whole, int64_t(s.lanes)));
  });
}

void WinogradTask::finishTiles() {
  int64_t m = claim.tile, lanes = s.lanes, width = int64_t(vectors) * lanes;
  auto type = VectorType::get({lanes}, b().getF32Type());
  Value zero = index().constant(0);
  Value left = index().sub(index().constant(numTiles), firstTile);
  Value count = index().min(left, index().constant(tilesPerTask));
  task.out = pixels;
  task.outRow = index().constant(width);
  Value resultRow =
      task.symbolic(form.spec.resultStrides[form.spec.rows.back()]);
  index().forEach(zero, count, 1, [&](Value t) {
    Place place = placeOf(index().add(firstTile, t));
    Value columns =
        index().min(index().constant(m),
                    index().sub(index().constant(form.columns), place.column));
    index().forEach(
        zero, index().constant(filtersPerTask), width, [&](Value filter) {
          Value validFilters = index().min(
              index().constant(width),
              index().sub(index().constant(filtersPerTask), filter));
          index().forEach(zero, validFilters, lanes, [&](Value lane) {
            Value from = index().add(index().mul(t, sumPitch),
                                     index().add(filter, lane));
            std::vector<Vectors> halves;
            for (int64_t nu = 0; nu < n; ++nu) {
              Vectors line;
              for (int64_t xi = 0; xi < n; ++xi)
                line.push_back(
                    vector::LoadOp::create(b(), loc(), type, sums,
                                           at(from, (xi * n + nu) * sumPlane)));
              halves.push_back(combine(claim.output, m, n, line));
            }
            for (int64_t i = 0; i < m; ++i) {
              Vectors line;
              for (int64_t nu = 0; nu < n; ++nu)
                line.push_back(halves[nu][i]);
              for (auto [j, value] :
                   llvm::enumerate(combine(claim.output, m, n, line)))
                vector::StoreOp::create(b(), loc(), value, pixels,
                                        at(lane, (i * m + int64_t(j)) * width));
            }
          });
          Value column = index().add(firstFilter, filter);
          for (int64_t i = 0; i < m; ++i) {
            Value row = at(place.row, i);
            task.ifHolds(index().less(row, index().constant(form.rows)), [&] {
              Value line =
                  index().add(index().mul(place.image, form.rows), row);
              Value pixel =
                  index().add(index().mul(line, form.columns), place.column);
              Value to = index().add(index().mul(pixel, resultRow), column);
              task.callEpilogue(index().constant(i * m * width), to, pixel,
                                column, columns, validFilters);
            });
          }
        });
  });
}

FailureOr<CpuKernel> WinogradTask::emit(std::string &reason) {
  CpuKernel result;
  result.symbol = options.symbol;
  result.nest = "winograd";
  loadCpuDialects(*form.spec.context());
  graph::KernelOp kernel = form.spec.kernel;
  task.module = ModuleOp::create(kernel.getLoc());
  task.isTransformed = true;
  for (TypeRange types : {TypeRange(kernel.getArgumentTypes()),
                          TypeRange(kernel.getResultTypes())})
    for (Type type : types)
      task.bufferTypes.push_back(cast<RankedTensorType>(type).getElementType());
  task.findInPlace(result);
  plan(result);
  packFilters(result);
  if (failed(task.emitEpilogue(reason)))
    return failure();
  task.function.emplace(*task.module, options.symbol, task.bufferTypes,
                        kernel.getNumSymbols());
  for (graph::InPlacePair pair : result.inPlace)
    task.function->mayOverlap(pair.operand, task.resultBuffer(pair.result));
  task.index.emplace(b(), loc());
  task.symbols = task.function->symbols();
  task.axes.assign(form.spec.space.extents.size(), index().constant(0));
  int64_t split = form.filters / filtersPerTask;
  Value number = task.function->task(), parts = index().constant(split);
  firstTile = index().mul(index().div(number, parts), tilesPerTask);
  firstFilter = index().mul(index().rem(number, parts), filtersPerTask);
  auto area = [&](int64_t elements) {
    return task.function->scratchView(b().getF32Type(),
                                      index().constant(elements * 4));
  };
  inputs = area(0);
  sums = area(points * inputPlane);
  pixels = area(points * (inputPlane + sumPlane));
  fillTiles();
  multiply();
  finishTiles();
  task.function->finish();
  result.module = std::move(task.module);
  return result;
}

FailureOr<CpuKernel> dlc::emitWinograd(graph::KernelOp kernel,
                                       const CpuTarget &target,
                                       const CpuCodegenOptions &options,
                                       std::string &reason) {
  auto claim = WinogradClaim::fromAttr(
      kernel->getAttrOfType<DictionaryAttr>(WinogradClaim::kAttr));
  if (failed(claim)) {
    reason = "there is no claim of that form";
    return failure();
  }
  auto form = classifyWinograd(kernel, reason);
  if (failed(form))
    return failure();
  if (!options.isConstant(form->spec.rhs.operand) || options.strict) {
    reason = "the weights are no constant, or sums keep their order";
    return failure();
  }
  ContractionSchedule schedule =
      baseSchedule(target.desc(), form->spec.accumulator);
  return WinogradTask(*form, *claim, schedule, target, options).emit(reason);
}
