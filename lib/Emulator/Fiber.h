// Cooperative threads of execution on one OS thread.
//
// A GPU block needs up to 1024 threads that stop at barriers; OS threads would
// be slow and their order random. A fiber is a stack and a saved register set;
// switching costs a few nanoseconds on x86-64 and a system call elsewhere.
#ifndef DLC_LIB_EMULATOR_FIBER_H
#define DLC_LIB_EMULATOR_FIBER_H

#include <cstddef>
#include <memory>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace dlc::emu {

/// Stacks for a number of fibers, each with an unmapped page below it, so that
/// an overflow stops the program instead of corrupting a neighbour.
class FiberStacks {
public:
  FiberStacks(size_t count, size_t bytesEach);
  ~FiberStacks();
  FiberStacks(const FiberStacks &) = delete;
  FiberStacks &operator=(const FiberStacks &) = delete;

  /// False when the system refused the memory.
  bool valid() const { return base != nullptr; }
  size_t count() const { return numStacks; }
  /// Usable bytes of each stack.
  size_t bytes() const { return stackBytes; }
  char *bottom(size_t index) const;

private:
  char *base = nullptr;
  size_t numStacks;
  size_t stackBytes;
  size_t guardBytes;
};

/// A suspended or running flow of control. The default constructed fiber stands
/// for the OS thread's own stack.
class Fiber {
public:
  using Entry = void (*)(void *);

  Fiber() = default;
  Fiber(const Fiber &) = delete;
  Fiber &operator=(const Fiber &) = delete;

  /// Makes the next switch to this fiber call `entry(argument)` on the given
  /// stack. `entry` must not return: it ends by switching away for good.
  void start(char *stackBottom, size_t stackBytes, Entry entry, void *argument);

  /// Leaves `from` (the running fiber) and resumes `to`. `last` says that
  /// `from` is never resumed.
  static void switchTo(Fiber &from, Fiber &to, bool last = false);

  /// True when `address` lies in this fiber's stack.
  bool owns(const void *address) const {
    auto *byte = static_cast<const char *>(address);
    return byte >= bottom && byte < bottom + size;
  }

private:
  static void entryPoint(void *self);

  char *bottom = nullptr;
  size_t size = 0;
  Entry entry = nullptr;
  void *argument = nullptr;
  Fiber *resumedBy = nullptr;
  /// AddressSanitizer's own record of a suspended stack.
  void *fakeStack = nullptr;
#if defined(__x86_64__)
  void *stackPointer = nullptr;
#else
  ucontext_t context;
#endif
};

} // namespace dlc::emu

#endif // DLC_LIB_EMULATOR_FIBER_H
