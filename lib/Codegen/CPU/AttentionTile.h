// Register tiles of the attention nest: products in which one factor is read
// element by element where it lies (keys, values) and the other as vectors
// along the queries.
#ifndef DLC_LIB_CODEGEN_CPU_ATTENTIONTILE_H
#define DLC_LIB_CODEGEN_CPU_ATTENTIONTILE_H

#include "dlc/Codegen/Common/IndexBuilder.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <map>

namespace dlc {

/// out[h][0..width] = scale * out[h] + sum over k of a[h, k] * b[k][0..width]
/// for rows h of a tile; a is read at offset + h * row + k * step, b and out
/// are f32 with rows of `width` elements. Of pairs, elements of a and b are two
/// bf16 numbers each, of neighbouring k.
class AttentionTiles {
public:
  /// Functions are called `<prefix>.<height>x<vectors>` and put into `module`.
  /// `row` and `step` are constants or values of the function that calls;
  /// `accumulates`: out holds sums so far, which are scaled first.
  AttentionTiles(mlir::ModuleOp module, std::string prefix, unsigned lanes,
                 unsigned vectors, unsigned unroll, bool pairs,
                 bool accumulates)
      : module(module), prefix(std::move(prefix)), lanes(lanes),
        vectors(vectors), unroll(unroll), pairs(pairs),
        accumulates(accumulates) {}

  struct Factor {
    mlir::Value memory, offset, row, step;
  };
  struct Place {
    mlir::Value memory, offset;
  };
  /// Rows [0, count) in tiles of at most `height`; `depth` steps of k. `scale`
  /// holds `width` factors (read when the tiles accumulate).
  void emit(IndexBuilder &index, unsigned height, mlir::Value count,
            mlir::Value depth, Factor a, Place b, Place out, Place scale);

private:
  void call(IndexBuilder &index, unsigned height, mlir::Value first,
            mlir::Value depth, Factor a, Place b, Place out, Place scale);
  mlir::func::FuncOp create(unsigned height, mlir::Value depth, const Factor &a,
                            mlir::Type memory);

  mlir::ModuleOp module;
  std::string prefix;
  unsigned lanes, vectors, unroll;
  bool pairs, accumulates;
  std::map<unsigned, mlir::func::FuncOp> functions;
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_ATTENTIONTILE_H
