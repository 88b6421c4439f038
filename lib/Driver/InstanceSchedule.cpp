// Schedules for instances of kernel libraries where the rules for models do not
// fit. A model's weights are packed when it is compiled; a library's matrices
// come as they are, in every call.
#include "Compilation.h"

#include "dlc/Codegen/CPU/ContractionKnobs.h"
#include "dlc/Codegen/CPU/KernelVariants.h"
#include "dlc/Program/Passes.h"
#include "dlc/Schedule/Schedule.h"

using namespace mlir;
using namespace dlc;

namespace {
// How a kernel is called.
struct Use {
  SmallVector<int64_t> symbols; ///< typical values; empty: none is known
  CpuCodegenOptions options;
};
} // namespace

// By kernel; a variant is called as the kernel that it is one of.
static llvm::StringMap<Use> findUses(Compilation &c) {
  llvm::StringMap<Use> uses;
  SymbolTable table(c.getModule());
  func::FuncOp main = c.source.getMain();
  SmallVector<int64_t> sizes;
  bool areKnown = true;
  if (auto names = main->getAttrOfType<ArrayAttr>("graph.symbols"))
    for (auto name : names.getAsRange<StringAttr>()) {
      auto it = c.options.dims.find(name.getValue().str());
      areKnown &= it != c.options.dims.end();
      sizes.push_back(areKnown ? it->second.typical : 1);
    }
  main.walk([&](graph::CallOp call) {
    Use use;
    if (call.getSymbols() && areKnown)
      for (AffineExpr e : call.getSymbols()->getDims())
        use.symbols.push_back(graph::evaluate(e, sizes));
    for (Value arg : call.getArgs())
      use.options.constantOperands.push_back(
          graph::getViewed(arg).getDefiningOp<graph::ConstantOp>() != nullptr);
    auto kernel = table.lookup<graph::KernelOp>(call.getCallee());
    if (auto dispatch = kernel->getAttrOfType<DictionaryAttr>(kDispatchAttr))
      for (auto name :
           dispatch.getAs<ArrayAttr>("kernels").getAsRange<FlatSymbolRefAttr>())
        uses[name.getValue()] = use;
    uses[call.getCallee()] = std::move(use);
  });
  return uses;
}

namespace {
// A kernel that is a product, and how the rules for models schedule it.
struct Product {
  ContractionSpec spec;
  std::optional<SizeRange> range; ///< of the variant's size
  ProductForm form;
  const CpuTarget &target;
  const CpuCodegenOptions &options;

  ContractionSchedule schedule() const { return schedule(spec, range); }
  // The same product with other sizes, or for other rows.
  ContractionSchedule schedule(const ContractionSpec &sizes,
                               std::optional<SizeRange> rows) const {
    return defaultSchedule(sizes, target, options, rows, form);
  }
};
} // namespace

static std::optional<Product>
readProduct(graph::KernelOp kernel, const Use &use, const CpuTarget &target) {
  std::string reason;
  FailureOr<ContractionSpec> spec = classifyContraction(kernel, reason);
  if (failed(spec))
    return std::nullopt;
  auto range = getVariantRange(kernel);
  return Product{*spec, range, chooseForm(*spec, target, use.options, range),
                 target, use.options};
}

static std::optional<KnobValues> ifLegal(const ContractionSchedule &base,
                                         const KnobValues &knobs,
                                         const ContractionSpec &spec,
                                         const CpuTarget &target) {
  std::string reason;
  if (!isLegal(withKnobs(base, knobs, spec, target), spec, target, reason))
    return std::nullopt;
  return knobs;
}

// How wide a task is that uses the sizes' columns well: `most`, but one for
// each thread.
static int64_t columnsOfTask(int64_t columns, int64_t most,
                             const CpuTarget &target) {
  int64_t threads = target.plannedThreads();
  return std::min(most, (columns + threads - 1) / threads);
}

// Rows times a matrix whose rows are the sum's steps: its columns are a stride
// apart, and a tile that sums them all the way down takes a cache line of each
// of many pages. Passes of some steps read rows instead, and the sums wait in
// the result. One row leaves registers for tiles that are as wide as a pass of
// few steps likes.
static constexpr int64_t kStepsPerPass = 64, kStepsOfOneRow = 32;

static std::optional<KnobValues>
streamRows(graph::KernelOp kernel, const Use &use, const CpuTarget &target) {
  std::optional<Product> product = readProduct(kernel, use, target);
  if (!product)
    return std::nullopt;
  const ContractionSpec &spec = product->spec;
  ContractionSchedule base = product->schedule();
  // What more rows want is copied into panels.
  if (product->form != ProductForm::Single || !spec.rhs.plain || base.dot ||
      base.rhs != FactorSource::Memory ||
      use.options.isConstant(spec.rhs.operand))
    return std::nullopt;
  auto column = spec.strideOf(spec.rhs, spec.columns);
  auto columns = graph::constantValue(spec.extentOf(spec.columns));
  auto steps = graph::constantValue(spec.extentOf(spec.inner));
  bool isOneRow = graph::constantValue(spec.extentOf(spec.rows)) == 1;
  KnobValues knobs = {
      {"depth_per_pass", isOneRow ? kStepsOfOneRow : kStepsPerPass}};
  if (!column || graph::constantValue(*column) != 1 ||
      (steps && *steps <= knobs["depth_per_pass"]))
    return std::nullopt;
  if (isOneRow) {
    // Sums, and as many vectors of the matrix.
    int64_t vectors = target.desc().vectorRegisters / 2 - 1;
    vectors =
        std::min<int64_t>(8, vectors / base.panelVectors * base.panelVectors);
    if (vectors < 1 || (columns && *columns < vectors * base.lanes))
      return std::nullopt;
    knobs["tile_rows"] = 1;
    knobs["tile_vectors"] = vectors;
    knobs["lhs"] = int64_t(FactorSource::Memory);
    knobs["block_column_steps"] = knobs["rows_outside"] = 0;
  } else if (use.symbols.size() == kernel.getNumSymbols()) {
    // Narrow tasks read short pieces of the rows.
    constexpr int64_t most = 1024;
    int64_t step = base.columnStep();
    int64_t wide =
        columnsOfTask(graph::evaluate(spec.extentOf(spec.columns), use.symbols),
                      most, target);
    if (base.columnsPerTask && base.columnsPerTask < wide)
      knobs["task_column_steps"] = (wide + step - 1) / step;
  }
  return ifLegal(base, knobs, spec, target);
}

// More rows times a matrix of which only a narrow part could be copied for all
// steps: of one whose rows are the steps, that is a line or two of each of
// thousands of rows; and rows of open length are copied, too, for each task.
// Passes over the steps copy wide pieces instead, and rows as their turn comes.
// The sums of some hundred rows, which wait between passes, should stay in the
// second-level cache beside the columns: of twice as many they do not.
static constexpr int64_t kPassColumns = 256, kFewestSteps = 64;

// Beside what `others` say.
static std::optional<KnobValues> fillInPasses(graph::KernelOp kernel,
                                              const Use &use,
                                              const CpuTarget &target,
                                              const KnobValues &others) {
  std::optional<Product> product = readProduct(kernel, use, target);
  if (!product)
    return std::nullopt;
  const ContractionSpec spec = factorsOf(product->spec, product->form);
  ContractionSchedule base =
      withKnobs(product->schedule(), others, product->spec, target);
  bool isPairs = product->form == ProductForm::Bf16Pairs;
  if ((product->form != ProductForm::Single && !isPairs) ||
      base.rhs != FactorSource::Filled || !spec.rhs.plain ||
      base.lhs == FactorSource::Packed)
    return std::nullopt;
  auto column = spec.strideOf(spec.rhs, spec.columns);
  auto sizeOf = [&](ArrayRef<unsigned> group) {
    return graph::evaluate(spec.extentOf(group), use.symbols);
  };
  bool isAcross = column && graph::constantValue(*column) == 1;
  int64_t bytes = isPairs ? 2 : spec.accumulator.getIntOrFloatBitWidth() / 8,
          room = target.desc().l2Bytes / 2, steps = sizeOf(spec.inner),
          columns = sizeOf(spec.columns);
  int64_t perPass = std::max(room / (kPassColumns * bytes), kFewestSteps);
  perPass -= perPass % base.kBlock;
  // Columns of pairs are filled for all steps, whatever the passes.
  bool copiesRows = base.lhs == FactorSource::Filled &&
                    !graph::constantValue(spec.extentOf(spec.inner));
  if (!column || (isPairs && !isAcross && !copiesRows) || steps <= perPass ||
      std::min(columns, kPassColumns) * steps * bytes <= room)
    return std::nullopt;
  int64_t step = base.columnStep();
  KnobValues knobs = {{"rows_outside", 1},
                      {"block_column_steps", kPassColumns / step},
                      {"depth_per_pass", perPass}};
  // Narrow tasks copy the rows more often.
  int64_t wide = columnsOfTask(columns, kPassColumns, target);
  if (base.columnsPerTask && base.columnsPerTask < wide)
    knobs["task_column_steps"] = (wide + step - 1) / step;
  return ifLegal(base, knobs, product->spec, target);
}

//===----------------------------------------------------------------------===//
// Typical sizes
//===----------------------------------------------------------------------===//

// The default schedule blocks columns and steps that it does not know for sizes
// of its own; a manifest says what to expect. Knobs of the schedule for those
// sizes, as far as it is of the same kind.
static std::optional<KnobValues>
blockFor(graph::KernelOp kernel, const Use &use, const CpuTarget &target) {
  std::optional<Product> product = readProduct(kernel, use, target);
  if (!product)
    return std::nullopt;
  const ContractionSpec &spec = product->spec;
  ContractionSpec typical = spec;
  bool isSymbolic = !graph::constantValue(spec.extentOf(spec.rows));
  for (ArrayRef<unsigned> group :
       {ArrayRef(spec.columns), ArrayRef(spec.inner)})
    for (unsigned axis : group) {
      AffineExpr &extent = typical.space.extents[axis];
      isSymbolic |= !graph::constantValue(extent);
      extent = getAffineConstantExpr(graph::evaluate(extent, use.symbols),
                                     kernel.getContext());
    }
  if (!isSymbolic)
    return std::nullopt;
  ContractionSchedule open = product->schedule(),
                      known = product->schedule(typical, product->range),
                      deep = known;
  // What is kept in the caches, where any number of rows may come: for many.
  // Few lose little by it, and many would lose much.
  constexpr int64_t many = 1024;
  SizeRange rows = product->range.value_or(SizeRange());
  if (rows.high == SizeRange().high) {
    rows.typical =
        std::max({rows.typical, many,
                  graph::evaluate(spec.extentOf(spec.rows), use.symbols)});
    deep = product->schedule(typical, rows);
  }
  auto isLike = [&](const ContractionSchedule &other) {
    return other.lhs == open.lhs && other.rhs == open.rhs &&
           other.kBlock == open.kBlock && other.widensRhs == open.widensRhs &&
           !other.dot;
  };
  if (!isLike(open) || !isLike(known) || !isLike(deep))
    return std::nullopt;
  // Rows of unknown number may be left in one task; then columns are cut.
  bool isCut = deep.rowsPerTask || deep.columnsPerTask;
  const ContractionSchedule &chosen = isCut ? deep : known;
  KnobValues all = toKnobs(chosen), knobs;
  for (const char *name : {"tile_rows", "tile_vectors", "prefetch",
                           "task_row_tiles", "task_column_steps"})
    knobs[name] = all[name];
  // More columns than the typical ones may come.
  int64_t step = chosen.columnStep();
  auto columns = graph::constantValue(typical.extentOf(typical.columns));
  if (!knobs["task_column_steps"] &&
      !graph::constantValue(spec.extentOf(spec.columns)))
    knobs["task_column_steps"] =
        std::max<int64_t>(1, (columns.value_or(1) + step - 1) / step);
  int64_t block = deep.columnsPerBlock / step;
  bool isWhole =
      knobs["task_column_steps"] && block >= knobs["task_column_steps"];
  knobs["block_column_steps"] = isWhole ? 0 : block;
  knobs["depth_per_pass"] = deep.depthPerPass;
  knobs["rows_outside"] = deep.rowsOutside;
  return ifLegal(open, knobs, spec, target);
}

void dlc::scheduleInstance(Compilation &c) {
  if (!c.target || c.cuda || c.options.strict)
    return;
  llvm::StringMap<Use> uses = findUses(c);
  for (auto kernel : c.getModule().getOps<graph::KernelOp>()) {
    NamedAttrList entries(kernel.getScheduleAttr());
    auto it = uses.find(kernel.getSymName());
    if (kernel.getOpaque() || it == uses.end() ||
        entries.get("nest")) // somebody's choice
      continue;
    auto knobs = streamRows(kernel, it->second, *c.target);
    bool streams = bool(knobs);
    if (!knobs && !it->second.symbols.empty())
      knobs = blockFor(kernel, it->second, *c.target);
    bool knowsSizes = it->second.symbols.size() == kernel.getNumSymbols();
    if (!streams && knowsSizes)
      if (auto passes = fillInPasses(kernel, it->second, *c.target,
                                     knobs.value_or(KnobValues()))) {
        if (!knobs)
          knobs.emplace();
        for (auto &[name, value] : *passes)
          (*knobs)[name] = value;
      }
    if (!knobs)
      continue;
    Builder builder(kernel.getContext());
    entries.set("nest", builder.getStringAttr("contraction"));
    for (auto &[name, value] : *knobs)
      entries.set(name, builder.getI64IntegerAttr(value));
    kernel.setScheduleAttr(entries.getDictionary(kernel.getContext()));
  }
}
