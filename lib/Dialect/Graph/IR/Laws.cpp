// The text form of laws and numerics modes.
#include "dlc/Dialect/Graph/IR/Laws.h"

using namespace mlir;
using namespace dlc::graph;

static constexpr StringLiteral kHomSoftmax = "hom(softmax)",
                               kHomWelford = "hom(welford)",
                               kRoundSoftmax = "round(softmax)",
                               kWinograd = "distribute(winograd)",
                               kDistributeAdd = "distribute(add)",
                               kScale = "distribute(scale)",
                               kExcessSums = "excess(sums)",
                               kExcessAll = "excess(all)";

std::string Law::str() const {
  if (kind == LawKind::hom)
    return (state == HomState::softmax ? kHomSoftmax : kHomWelford).str();
  if (kind == LawKind::round)
    return kRoundSoftmax.str();
  if (kind == LawKind::distribute)
    return (second                   ? kScale
            : fold == FoldKind::none ? kWinograd
                                     : kDistributeAdd)
        .str();
  if (kind == LawKind::excess)
    return (second ? kExcessAll : kExcessSums).str();
  StringRef name = kind == LawKind::split     ? "split"
                   : kind == LawKind::reorder ? "reorder"
                                              : "flush";
  return (name + "(" + stringifyFoldKind(fold) + ")").str();
}

FailureOr<Law> Law::parse(StringRef text) {
  Law law;
  if (text == kHomSoftmax)
    return homSoftmax();
  if (text == kHomWelford)
    return homWelford();
  if (text == kRoundSoftmax)
    return roundSoftmax();
  if (text == kWinograd)
    return winograd();
  if (text == kDistributeAdd)
    return distributeAdd();
  if (text == kScale)
    return scale();
  if (text == kExcessSums || text == kExcessAll)
    return excess(text == kExcessAll);
  if (text.consume_front("split("))
    law.kind = LawKind::split;
  else if (text.consume_front("reorder("))
    law.kind = LawKind::reorder;
  else if (text.consume_front("flush("))
    law.kind = LawKind::flush;
  else
    return failure();
  if (!text.consume_back(")"))
    return failure();
  std::optional<FoldKind> fold = symbolizeFoldKind(text);
  if (!fold || *fold == FoldKind::none)
    return failure();
  law.fold = *fold;
  return law;
}

/// A bf16 number in f32, read through stages that only pass it on.
static bool isWidenedBf16(Value value) {
  while (auto load = value.getDefiningOp<LoadOp>()) {
    auto source = load.getTensor().getDefiningOp<StageOp>();
    if (!source)
      return false;
    value = source.getYielded();
  }
  auto cast = value.getDefiningOp<CastOp>();
  return cast && cast.getType().isF32() && cast.getValue().getType().isBF16();
}

bool dlc::graph::sumsBf16Products(StageOp stage) {
  if (stage.getFoldKind() != FoldKind::add)
    return false;
  auto product = stage.getYielded().getDefiningOp<ApplyOp>();
  return product && product.getFn() == ScalarFn::mul &&
         llvm::all_of(product.getArgs(), isWidenedBf16);
}

StringRef dlc::graph::stringifyNumericsMode(NumericsMode mode) {
  return mode == NumericsMode::strict    ? "strict"
         : mode == NumericsMode::reassoc ? "reassoc"
                                         : "fast-conv";
}

std::optional<NumericsMode> dlc::graph::symbolizeNumericsMode(StringRef text) {
  if (text == "strict")
    return NumericsMode::strict;
  if (text == "reassoc")
    return NumericsMode::reassoc;
  if (text == "fast-conv")
    return NumericsMode::fastConv;
  return std::nullopt;
}
