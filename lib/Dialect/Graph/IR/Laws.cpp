// The text form of laws and numerics modes.
#include "dlc/Dialect/Graph/IR/Laws.h"

using namespace mlir;
using namespace dlc::graph;

static constexpr StringLiteral kHomSoftmax = "hom(softmax)";

std::string Law::str() const {
  if (kind == LawKind::hom)
    return kHomSoftmax.str();
  StringRef name = kind == LawKind::split ? "split" : "reorder";
  return (name + "(" + stringifyFoldKind(fold) + ")").str();
}

FailureOr<Law> Law::parse(StringRef text) {
  Law law;
  if (text == kHomSoftmax)
    return homSoftmax();
  if (text.consume_front("split("))
    law.kind = LawKind::split;
  else if (text.consume_front("reorder("))
    law.kind = LawKind::reorder;
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

StringRef dlc::graph::stringifyNumericsMode(NumericsMode mode) {
  return mode == NumericsMode::strict ? "strict" : "reassoc";
}

std::optional<NumericsMode> dlc::graph::symbolizeNumericsMode(StringRef text) {
  if (text == "strict")
    return NumericsMode::strict;
  if (text == "reassoc")
    return NumericsMode::reassoc;
  return std::nullopt;
}
