// What searches and lookups of CPUs and of GPUs share: the records that are
// known, and what kernels take of them.
#ifndef DLC_LIB_DRIVER_TUNEDATABASE_H
#define DLC_LIB_DRIVER_TUNEDATABASE_H

#include "Compilation.h"

#include "dlc/Schedule/Schedule.h"
#include "dlc/Tuner/KernelTask.h"

#include <map>

namespace dlc {

/// The user's store and the records that dlc comes with for one architecture.
class TuneDatabase {
public:
  /// Makes the store for a search. A lookup without a store of the user's has
  /// what dlc comes with.
  static llvm::Expected<TuneDatabase> open(const CompileOptions &options,
                                           llvm::StringRef arch);

  /// All records of this kernel on this machine.
  llvm::Expected<std::vector<tuner::Record>>
  select(const tuner::KernelKey &key) const;

  /// Null: there is none.
  tuner::Store *getStore() const { return store.get(); }
  llvm::ArrayRef<tuner::Record> getShipped() const { return shipped; }

private:
  std::unique_ptr<tuner::Store> store;
  std::vector<tuner::Record> shipped;
  /// Of these, by target and workload.
  std::map<std::pair<std::string, std::string>, std::vector<size_t>> places;
};

/// Notes why a kernel keeps the rules' schedule.
void noteUntuned(Compilation &c, graph::KernelOp kernel,
                 const llvm::Twine &reason);
/// Gives `kernel` the schedule that was measured as `best`.
void takeSchedule(Compilation &c, graph::KernelOp kernel,
                  const Schedule &schedule, const tuner::Record &best);
/// Prints the notes and, with `more` behind it, how many kernels are tuned, as
/// far as the user wants to know.
void reportTuning(const Compilation &c, const llvm::Twine &more = "");

} // namespace dlc

#endif // DLC_LIB_DRIVER_TUNEDATABASE_H
