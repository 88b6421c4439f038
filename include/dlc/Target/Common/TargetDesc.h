// What the compiler knows of a machine. A target is described by data (a JSON
// file beside this header, or a user's own), so that compiling, costing and
// testing need no such machine present. This header also holds the parsed form
// of a `-target=` string, before any target has given meaning to its keys.
#ifndef DLC_TARGET_COMMON_TARGETDESC_H
#define DLC_TARGET_COMMON_TARGETDESC_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace dlc {

/// The text after `-target=`: an architecture name, then `:key=value` pairs.
/// A value may contain commas (`features=avx2,fma`).
struct TargetSpec {
  std::string arch;
  std::vector<std::pair<std::string, std::string>> options;

  /// Splits `text`. Errors on an empty architecture, a pair without `=`, an
  /// empty value and a repeated key.
  static llvm::Expected<TargetSpec> parse(llvm::StringRef text);

  /// The value of `key`, or nothing.
  std::optional<llvm::StringRef> get(llvm::StringRef key) const;

  /// Errors on a key that is not in `valid`; the message lists the valid ones.
  llvm::Error checkKeys(llvm::ArrayRef<llvm::StringRef> valid) const;
};

/// One CPU, as code generation and cost estimates see it.
struct TargetDesc {
  std::string name;          ///< the description's own name, such as "znver4"
  std::string arch;          ///< "x86" or "arm"
  std::string triple;        ///< LLVM target triple
  std::string cpu;           ///< LLVM CPU name
  std::string features;      ///< LLVM feature string, "+a,-b"
  unsigned vectorBytes = 16; ///< width of the widest vector used
  unsigned vectorRegisters = 16; ///< architectural vector registers
  int64_t l1Bytes = 32 << 10;    ///< data cache of one core
  int64_t l2Bytes = 512 << 10;   ///< second-level cache of one core
  int64_t l3Bytes = 8 << 20;     ///< last-level cache, shared
  unsigned cores = 1;            ///< cores (or threads) the code may use
  double ghz = 2.5;              ///< sustained clock
  double f32FlopsPerCycle = 16;  ///< of one core, multiply and add counted
  /// The same of bf16 dot products; 0: derived from the features.
  double bf16FlopsPerCycle = 0;
  /// The same of matrix tiles (AMX), of bf16 numbers and of bytes; 0: there are
  /// none, or derived from the features.
  double bf16TileFlopsPerCycle = 0;
  double byteTileOpsPerCycle = 0;
  double readGBs = 15; ///< memory read bandwidth of one core

  /// Number of elements of `bytes` bytes in a vector register.
  unsigned lanes(unsigned bytes) const { return vectorBytes / bytes; }

  /// Reads one description. Errors name the missing or ill-typed field.
  static llvm::Expected<TargetDesc> parseJson(llvm::StringRef json);
  std::string toJson() const;
};

} // namespace dlc

#endif // DLC_TARGET_COMMON_TARGETDESC_H
