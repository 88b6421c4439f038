// The meaning of scalar functions, casts and folds on each dtype, over lanes.
#ifndef DLC_LIB_INTERPRETER_SCALARLANES_H
#define DLC_LIB_INTERPRETER_SCALARLANES_H

#include "LaneType.h"
#include "dlc/Interpreter/MathMode.h"

namespace dlc::interp {

/// out[i] = fn(args[0][i], args[1][i], ...); `out` may be one of the arguments.
using ApplyFn = void (*)(const void *const *args, void *out, int64_t count,
                         const MathTable &math);

/// The loop for `fn` where the value operands have lane type `type`; `second`
/// is the exponent's type of pow. Null when `fn` has no meaning on `type`.
/// Results of 16-bit types must still be rounded.
ApplyFn getApplyFn(graph::ScalarFn fn, LaneType type, LaneType second);

/// out[i] = from[i] converted; see graph.scalar_cast. The arrays may be the
/// same only if the lane sizes are.
using CastFn = void (*)(const void *from, void *out, int64_t count);
CastFn getCastFn(LaneType from, LaneType to, bool saturate);

/// Rounds f16 and bf16 lanes in place, nothing for other types.
void roundLanes(LaneType type, void *lanes, int64_t count);

/// Lanes from memory: element offset + i * stride.
void loadLanes(LaneType type, const char *base, int64_t offset, int64_t stride,
               int64_t count, void *out);
/// Lanes from memory at offsets; a lane with a negative offset keeps its value.
void gatherLanes(LaneType type, const char *base, const int64_t *offsets,
                 int64_t count, void *out);
/// Contiguous lanes to memory.
void storeLanes(LaneType type, const void *lanes, int64_t count, char *base,
                int64_t offset);
/// One lane to an element.
void storeLane(LaneType type, const void *lane, char *base, int64_t offset);

/// Sets `count` lanes to the value of an integer or float attribute.
void fillLanes(LaneType type, mlir::Attribute value, int64_t count, void *out);
/// Sets lanes to what a fold starts from.
void fillIdentity(LaneType type, graph::FoldKind kind, int64_t count,
                  void *out);

inline bool isArgFold(graph::FoldKind kind) {
  return kind >= graph::FoldKind::argmax;
}

/// acc = fold(... fold(acc, lanes[0]) ..., lanes[count-1]), rounding each step.
void foldSequence(graph::FoldKind kind, LaneType type, const void *lanes,
                  int64_t count, void *acc);

/// One step of an arg fold for each lane: where value beats best, takes it and
/// `position`. The first step (position 0) always does.
void argStep(graph::FoldKind kind, LaneType type, const void *values,
             int64_t position, int64_t count, void *best,
             int64_t *bestPosition);
/// Steps of an arg fold along lanes: positions first, first + 1, ...
void argSequence(graph::FoldKind kind, LaneType type, const void *values,
                 int64_t first, int64_t count, void *best,
                 int64_t *bestPosition);

} // namespace dlc::interp

#endif // DLC_LIB_INTERPRETER_SCALARLANES_H
