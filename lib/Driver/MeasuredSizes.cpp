// From -tune-dim, else -dim, else what fusion assumes, to sizes of each kernel.
#include "MeasuredSizes.h"

#include "dlc/Codegen/CPU/KernelVariants.h"
#include "dlc/Program/Passes.h"

using namespace mlir;
using namespace dlc;
using llvm::Expected;

// Checking at a larger size takes the interpreter at most so many scalar
// operations.
static constexpr double kMostWork = 4e9;

Expected<MeasuredSizes> MeasuredSizes::create(Compilation &c) {
  MeasuredSizes sizes;
  func::FuncOp main = c.source.getMain();
  std::map<std::string, int64_t> typical;
  for (auto &[name, range] : c.options.dims)
    typical[name] = range.typical;
  Point first = fusion::typicalSizesOf(main, typical);
  auto names = main->getAttrOfType<ArrayAttr>("graph.symbols");
  auto known = c.options.tuneDims;
  size_t count = 1;
  for (auto &[name, values] : known)
    count = std::max(count, values.size());
  sizes.points.assign(count, first);
  if (names)
    for (auto [i, attr] : llvm::enumerate(names.getAsRange<StringAttr>())) {
      SizeRange &range = sizes.ranges.emplace_back();
      std::string name = attr.str();
      if (auto it = c.options.dims.find(name); it != c.options.dims.end())
        range = {it->second.min, it->second.max, it->second.typical};
      range.low = std::max<int64_t>(range.low, 1);
      auto asked = known.find(name);
      if (asked == known.end())
        continue;
      sizes.isAsked = true;
      // The last of a shorter list stands for the rest.
      for (auto [p, point] : llvm::enumerate(sizes.points)) {
        point[i] = asked->second[std::min(p, asked->second.size() - 1)];
        if (!range.contains(point[i]))
          return makeError(ExitCode::Usage, "-tune-dim=" + name + "=" +
                                                Twine(point[i]) +
                                                ": is outside of -dim");
      }
      known.erase(asked);
    }
  if (!known.empty())
    return makeError(ExitCode::Usage,
                     "-tune-dim=" + known.begin()->first +
                         ": the model has no free dim of this name");
  SymbolTable table(c.getModule());
  main.walk([&](graph::CallOp call) {
    if (!call.getSymbols() || sizes.uses.count(call.getCallee()))
      return;
    Use use{llvm::to_vector(call.getSymbols()->getDims()), {}};
    auto kernel = table.lookup<graph::KernelOp>(call.getCallee());
    if (auto dispatch = kernel->getAttrOfType<DictionaryAttr>(kDispatchAttr)) {
      AffineExpr size =
          dispatch.getAs<AffineMapAttr>("size").getValue().getResult(0);
      use.size = size.replaceSymbols(use.symbols);
      for (auto name :
           dispatch.getAs<ArrayAttr>("kernels").getAsRange<FlatSymbolRefAttr>())
        sizes.uses[name.getValue()] = use;
    }
    sizes.uses[call.getCallee()] = std::move(use);
  });
  return sizes;
}

void MeasuredSizes::move(Point &point, AffineExpr size, int64_t wanted) const {
  for (unsigned i = 0; i < point.size(); ++i) {
    if (graph::evaluate(size, point) == wanted)
      return;
    if (!size.isFunctionOfSymbol(i))
      continue;
    auto at = [&](int64_t value) {
      point[i] = value;
      return graph::evaluate(size, point);
    };
    // Sizes grow with what they are made of; where one does not, the result
    // fits no range.
    constexpr int64_t most = 1 << 20;
    int64_t low = ranges[i].low, high = std::min(ranges[i].high, most);
    while (low < high) {
      int64_t middle = low + (high - low + 1) / 2;
      if (at(middle) <= wanted)
        low = middle;
      else
        high = middle - 1;
    }
    at(low);
  }
}

/// Odd, about half or twice as large.
MeasuredSizes::Point MeasuredSizes::scale(const Point &point,
                                          bool grows) const {
  Point other;
  for (auto [value, range] : llvm::zip_equal(point, ranges))
    other.push_back(std::clamp(grows ? 2 * value + 1 : (value / 2) | 1,
                               range.low, range.high));
  return other;
}

/// Whether every tensor of `kernel` has elements there.
static bool hasSizes(graph::KernelOp kernel, ArrayRef<int64_t> symbols) {
  auto areGood = [&](ArrayRef<AffineExpr> dims) {
    return llvm::all_of(dims, [&](AffineExpr dim) {
      return graph::evaluate(dim, symbols) > 0;
    });
  };
  for (TypeRange types : {TypeRange(kernel.getArgumentTypes()),
                          TypeRange(kernel.getResultTypes())})
    for (Type type : types)
      if (!areGood(graph::getDims(type)))
        return false;
  return llvm::all_of(kernel.getStages(), [&](graph::StageOp stage) {
    return areGood(stage.getDomainDims()) && areGood(stage.getReduceDims());
  });
}

FailureOr<tuner::KernelSizes> MeasuredSizes::of(graph::KernelOp kernel,
                                                std::string &reason) const {
  tuner::KernelSizes sizes;
  if (!kernel.getNumSymbols())
    return sizes;
  auto it = uses.find(kernel.getSymName());
  if (it == uses.end()) {
    reason = "nothing is known of its symbolic sizes";
    return failure();
  }
  const Use &use = it->second;
  std::optional<SizeRange> range = getVariantRange(kernel);
  AffineExpr size = range ? use.size : AffineExpr();
  auto fits = [&](const Point &point) {
    return !size || range->contains(graph::evaluate(size, point));
  };
  auto toKernel = [&](const Point &point) {
    tuner::KernelSizes::Point symbols;
    for (AffineExpr e : use.symbols)
      symbols.push_back(graph::evaluate(e, point));
    return symbols;
  };
  auto add = [&](std::vector<tuner::KernelSizes::Point> &to,
                 const Point &point) {
    auto symbols = toKernel(point);
    if (fits(point) && hasSizes(kernel, symbols) &&
        !llvm::is_contained(sizes.measured, symbols) &&
        !llvm::is_contained(to, symbols))
      to.push_back(std::move(symbols));
  };
  Point begin = points.front();
  if (isAsked)
    for (const Point &point : points) {
      if (sizes.measured.empty() && fits(point))
        begin = point;
      add(sizes.measured, point);
    }
  if (sizes.measured.empty()) {
    if (size)
      move(begin, size, range->typical);
    add(sizes.measured, begin);
  }
  if (sizes.measured.empty()) {
    reason = range
                 ? "no size of its range was found, where it could be measured"
                 : "at the sizes that are taken a tensor has no elements; "
                   "-tune-dim= gives others";
    return failure();
  }
  for (bool grows : {false, true}) {
    Point other = scale(begin, grows);
    if (!fits(other)) {
      int64_t at = graph::evaluate(size, begin);
      move(other, size,
           std::clamp(grows ? 2 * at + 1 : (at / 2) | 1, range->low,
                      range->high));
    }
    if (!grows || sizes.others.empty() ||
        countWork(kernel, toKernel(other)).scalarOps <= kMostWork)
      add(sizes.others, other);
  }
  bool isFixed = llvm::all_of(use.symbols, [&](AffineExpr e) {
    SizeRange all = rangeOf(e, ranges);
    return all.low == all.high || (e == size && range->low == range->high);
  });
  if (sizes.others.empty() && !isFixed) {
    reason = "no other size is known to check its schedules at";
    return failure();
  }
  return sizes;
}
