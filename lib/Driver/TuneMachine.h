// What the tuning stage asks of the machine that kernels are tuned for. The
// stage shares a budget, keeps the database and takes the best; which kernels
// can be tuned, and how candidates are made and measured, is said here.
#ifndef DLC_LIB_DRIVER_TUNEMACHINE_H
#define DLC_LIB_DRIVER_TUNEMACHINE_H

#include "Compilation.h"

#include "dlc/Driver/FormedKernels.h"
#include "dlc/Schedule/Schedule.h"
#include "dlc/Tuner/KernelTask.h"

namespace dlc {

class TuneMachine {
public:
  virtual ~TuneMachine() = default;

  /// Of the shipped records and models.
  virtual llvm::StringRef getArch() const = 0;
  /// Before everything else.
  virtual llvm::Error prepare() = 0;
  /// Before a search: errors say why there can be none.
  virtual llvm::Error prepareSearch() = 0;
  /// Whether the kernel's schedule is the file's, and stays.
  virtual bool hasOwnSchedule(graph::KernelOp kernel) const = 0;
  /// Fails with `reason` where a kernel cannot be tuned.
  virtual mlir::FailureOr<tuner::KernelKey>
  makeKey(graph::KernelOp kernel, const KernelCalls &calls,
          std::string &reason) const = 0;
  /// Learned seconds of one run; nothing without a model of times.
  virtual std::optional<double>
  getSeconds(const tuner::KernelKey &key) const = 0;
  virtual llvm::Expected<std::shared_ptr<const tuner::Task>>
  makeTask(graph::KernelOp kernel, const KernelCalls &calls) = 0;
  /// Whether artifacts can call the library of a record that has one.
  virtual bool callsLibrary(const tuner::Record &record) const = 0;
  /// The schedule that a record of the database asks for; nothing, with
  /// `reason`, where the kernel cannot have it.
  virtual std::optional<Schedule>
  makeSchedule(graph::KernelOp kernel, const KernelCalls &calls,
               const tuner::KernelKey &key, const tuner::Record &record,
               const KnobValues &knobs, std::string &reason) const = 0;
};

std::unique_ptr<TuneMachine> makeCpuTuneMachine(Compilation &c);
std::unique_ptr<TuneMachine> makeCudaTuneMachine(Compilation &c);

} // namespace dlc

#endif // DLC_LIB_DRIVER_TUNEMACHINE_H
