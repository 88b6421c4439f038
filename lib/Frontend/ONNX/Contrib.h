//===- Contrib.h - what com.microsoft operators are made of -----*- C++ -*-===//
//
// Tables by subject, and the functions that several of them share.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_FRONTEND_ONNX_CONTRIB_H
#define LIB_FRONTEND_ONNX_CONTRIB_H

#include "Converter.h"

namespace dlc {

void addContribActivations(ConverterTable &table);
void addContribAttention(ConverterTable &table);
void addContribGroupQueryAttention(ConverterTable &table);
void addContribPagedAttention(ConverterTable &table);
void addContribQuantization(ConverterTable &table);

/// Rotary position embedding of the last axis of x: cos and sin broadcast to
/// x's first `2 * (their last dim)` elements' pairs; elements behind stay.
mlir::Value makeRotary(GraphBuilder &b, mlir::Value x, mlir::Value cos,
                       mlir::Value sin, bool interleaved);

/// softmax(scale * q k' + bias) v over q (B, H, S, D), k (B, K, T, D) and
/// v (B, K, T, E), where K divides H.
struct AttentionTerms {
  double scale = 0;   ///< 0: 1 / sqrt(D)
  double softcap = 0; ///< 0: none
  mlir::Value bias;   ///< added before the softmax, f32; may be null
  mlir::Value sink;   ///< (1, H, 1, 1): a logit without a value; may be null
};
mlir::Value makeAttention(GraphBuilder &b, mlir::Value q, mlir::Value k,
                          mlir::Value v, const AttentionTerms &terms);

/// 0 where the i1 condition holds, else `value`; f32.
mlir::Value penalty(GraphBuilder &b, mlir::Value allowed, double value);

/// The sum of two biases, either of which may be null.
mlir::Value joinBias(GraphBuilder &b, mlir::Value x, mlir::Value y);

/// num_heads and kv_num_heads of a node; refuses those that make no groups.
std::pair<int64_t, int64_t> readHeadCounts(NodeContext &node);

/// Rows of a table at positions (B, S), as (B, 1, S, pairs).
mlir::Value lookUp(GraphBuilder &b, mlir::Value table, mlir::Value positions);

/// x over the root of its mean square along the last axis, times `weight`; the
/// node's qk_norm_epsilon.
mlir::Value normalizeHeads(NodeContext &node, mlir::Value x,
                           mlir::Value weight);

/// (..., n * h) as (..., h, n): heads move before the second last axis.
mlir::Value splitHeads(GraphBuilder &b, mlir::Value x, int64_t heads);
mlir::Value mergeHeads(GraphBuilder &b, mlir::Value x);

/// (x - xZero) (y - yZero) in i32, times both scales, as f32. Zero points and
/// scales of y may be one a column; zero points may be null.
mlir::Value makeIntegerMatMul(GraphBuilder &b, mlir::Value x, mlir::Value xZero,
                              mlir::Value xScale, mlir::Value y,
                              mlir::Value yZero, mlir::Value yScale);

/// The numbers of `bits` bits in bytes along the last axis, low bits first.
mlir::Value unpackBits(GraphBuilder &b, mlir::Value bytes, int64_t bits);

/// 0 where a key is later than its query, else -inf: (S, T), the first query
/// being at `past`.
mlir::Value makeCausalBias(NodeContext &node, mlir::AffineExpr length,
                           mlir::AffineExpr total, mlir::AffineExpr past);

/// Row numbers (S, 1), of which the first is `first`, and column numbers
/// (1, T); i64.
std::pair<mlir::Value, mlir::Value> makePositions(NodeContext &node,
                                                  mlir::AffineExpr rows,
                                                  mlir::AffineExpr columns,
                                                  mlir::AffineExpr first);

/// Stops the run with a data error unless this i1 scalar holds; refuses what is
/// known to be false.
void requireTrue(NodeContext &node, mlir::Value condition,
                 llvm::StringRef what);

} // namespace dlc

#endif // LIB_FRONTEND_ONNX_CONTRIB_H
