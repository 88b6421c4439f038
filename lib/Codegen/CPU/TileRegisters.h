// Matrix tile registers (AMX) by number, 0 to 7, all of one configuration: 16
// rows of 64 bytes (emitTileConfiguration).
#ifndef DLC_LIB_CODEGEN_CPU_TILEREGISTERS_H
#define DLC_LIB_CODEGEN_CPU_TILEREGISTERS_H

#include "dlc/Codegen/Common/IndexBuilder.h"

namespace dlc {

/// Emits instructions at the index builder's insertion point.
class TileRegisters {
public:
  explicit TileRegisters(IndexBuilder &index) : index(index) {}

  /// Element `at` of `memory`.
  mlir::Value addressOf(mlir::Value memory, mlir::Value at);
  /// Byte `bytes` of it.
  mlir::Value addressAt(mlir::Value memory, mlir::Value bytes);
  /// The distance of rows, as the instructions take it.
  mlir::Value strideOf(mlir::Value elements, int64_t bytes);

  void zero(int64_t tile) { call("tilezero", number(tile)); }
  void load(int64_t tile, mlir::Value address, mlir::Value stride) {
    call("tileloadd64", {number(tile), address, stride});
  }
  void store(int64_t tile, mlir::Value address, mlir::Value stride) {
    call("tilestored64", {number(tile), address, stride});
  }
  /// sum += left * right, by the instruction of that name.
  void multiply(llvm::StringRef name, int64_t sum, int64_t left,
                int64_t right) {
    call(name, {number(sum), number(left), number(right)});
  }
  void call(llvm::StringRef name, mlir::ValueRange arguments);

private:
  mlir::Value number(int64_t tile);

  IndexBuilder &index;
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_TILEREGISTERS_H
