// Caches that became state: does @main still compute what it did?
#ifndef DLC_CHECK_STATE_H
#define DLC_CHECK_STATE_H

#include "dlc/Check/Laws.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace dlc::check {

/// Shows that `kept` computes what `original` did, for state that holds the
/// past rows: both are walked together, by the states that `kept` claims.
///
/// - A state is an argument that one graph.append reads, which writes the rows
///   that the output's Concat put behind the past, at the length, along its
///   axis; whoever read the Concat reads the rows in use of what was appended.
/// - Or its rows are replaced: graph.update stands for each graph.scatter that
///   made the output of the input, at the same positions, with the same rows,
///   and nothing else reads what was there before.
/// - All states that are appended to get equally many rows, so that their
/// lengths, equal at first,
///   stay equal: then one symbol may stand for all. Likewise the one size that
///   no input tells, of those whose rows are replaced.
/// - Everything else is the same operation of the same operands and sizes, and
///   the other outputs are the same values.
///
/// `bits` (8 or 4) licenses the law round(int8) or round(int4): what is
/// appended may be computed from the rows, and what is read from that, and from
/// nothing else. Refused in `strict`.
Admission checkState(mlir::func::FuncOp original, mlir::func::FuncOp kept,
                     unsigned bits, graph::NumericsMode mode);

/// "round(int8)"; empty for 0 bits.
std::string getRoundingLaw(unsigned bits);

} // namespace dlc::check

#endif // DLC_CHECK_STATE_H
