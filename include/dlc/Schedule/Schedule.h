// Schedules: how a kernel is carried out, as data. A schedule is the name of a
// nest, numbers for its knobs, and the laws it uses. It has two forms: the
// `schedule` attribute of a graph.kernel, which code generation reads, and a
// line of JSON, which is kept in databases and reports.
//
//   {"nest": "row", "width": 16, "laws": ["split(add)"]}
#ifndef DLC_SCHEDULE_SCHEDULE_H
#define DLC_SCHEDULE_SCHEDULE_H

#include "dlc/Dialect/Graph/IR/Laws.h"

#include "llvm/Support/Error.h"

#include <map>
#include <string>
#include <vector>

namespace dlc {

struct Schedule {
  /// "contraction", "map", "row", "generic"; empty: code generation chooses.
  std::string nest;
  /// By name; a knob that is absent keeps the nest's default.
  std::map<std::string, int64_t> knobs;
  /// What licenses results that differ from the left folds in order.
  std::vector<graph::Law> laws;

  bool operator==(const Schedule &other) const = default;

  /// The attribute form; an empty schedule is an empty dictionary.
  mlir::DictionaryAttr toAttr(mlir::MLIRContext *context) const;
  /// Errors name the entry that is not a schedule's.
  static llvm::Expected<Schedule> fromAttr(mlir::DictionaryAttr attr);

  /// One line of JSON: nest first, then the knobs by name, then the laws.
  /// Equal schedules have equal text.
  std::string toJson() const;
  /// Errors name the entry that is wrong.
  static llvm::Expected<Schedule> parseJson(llvm::StringRef text);
};

/// The schedule of `kernel`; empty without the attribute.
llvm::Expected<Schedule> getSchedule(graph::KernelOp kernel);

/// Whether the schedule that `kernel` has names the law.
bool hasLaw(graph::KernelOp kernel, const graph::Law &law);

/// The laws code generation uses for `kernel` when its order is free: float
/// sums and products are split over lanes and combined in another order. Folds
/// that are exact in any order need no admission and are listed all the same.
std::vector<graph::Law> defaultLaws(graph::KernelOp kernel,
                                    graph::NumericsMode mode);

} // namespace dlc

#endif // DLC_SCHEDULE_SCHEDULE_H
