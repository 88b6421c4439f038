// The context switch: hand-written for x86-64, ucontext elsewhere, both told to
// AddressSanitizer, which otherwise takes a new stack for an overflow.
#include "Fiber.h"

#include <cstdint>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DLC_FIBER_ASAN 1
#include <sanitizer/common_interface_defs.h>
#endif
#endif
#ifndef DLC_FIBER_ASAN
#define DLC_FIBER_ASAN 0
#endif

namespace dlc::emu {

FiberStacks::FiberStacks(size_t count, size_t bytesEach) : numStacks(count) {
  guardBytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  stackBytes = (bytesEach + guardBytes - 1) / guardBytes * guardBytes;
  void *memory =
      mmap(nullptr, (stackBytes + guardBytes) * count, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    return;
  base = static_cast<char *>(memory);
  for (size_t i = 0; i < count; ++i)
    mprotect(base + i * (stackBytes + guardBytes), guardBytes, PROT_NONE);
}

FiberStacks::~FiberStacks() {
  if (base)
    munmap(base, (stackBytes + guardBytes) * numStacks);
}

char *FiberStacks::bottom(size_t index) const {
  return base + index * (stackBytes + guardBytes) + guardBytes;
}

#if defined(__x86_64__)

// Saves what the System V ABI says a call preserves. The argument of a new
// fiber travels in r12 and its function in r13, both set up by start().
asm(R"(
.text
.p2align 4
.hidden dlc_emu_switch_stack
.globl dlc_emu_switch_stack
.type dlc_emu_switch_stack, @function
dlc_emu_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  retq
.size dlc_emu_switch_stack, .-dlc_emu_switch_stack

.p2align 4
.hidden dlc_emu_first_entry
.globl dlc_emu_first_entry
.type dlc_emu_first_entry, @function
dlc_emu_first_entry:
  movq %r12, %rdi
  callq *%r13
  ud2
.size dlc_emu_first_entry, .-dlc_emu_first_entry
)");

extern "C" void dlc_emu_switch_stack(void **save, void *load);
extern "C" void dlc_emu_first_entry();

void Fiber::start(char *stackBottom, size_t stackBytes, Entry function,
                  void *functionArgument) {
  bottom = stackBottom;
  size = stackBytes;
  entry = function;
  argument = functionArgument;
  fakeStack = nullptr;
  auto *top = reinterpret_cast<uintptr_t *>(
      (reinterpret_cast<uintptr_t>(stackBottom) + stackBytes) & ~uintptr_t(15));
  // After the six pops and the return the stack pointer must be 16-byte
  // aligned, as the ABI wants it before a call.
  *--top = 0;
  *--top = 0;
  *--top = reinterpret_cast<uintptr_t>(&dlc_emu_first_entry);
  *--top = 0;                                               // rbp
  *--top = 0;                                               // rbx
  *--top = reinterpret_cast<uintptr_t>(this);               // r12
  *--top = reinterpret_cast<uintptr_t>(&Fiber::entryPoint); // r13
  *--top = 0;                                               // r14
  *--top = 0;                                               // r15
  stackPointer = top;
}

#else

// makecontext passes ints only: the pointer travels as two halves.
static void splitEntry(unsigned high, unsigned low, unsigned functionHigh,
                       unsigned functionLow) {
  auto join = [](unsigned a, unsigned b) {
    return static_cast<uintptr_t>((uint64_t(a) << 32) | b);
  };
  auto function =
      reinterpret_cast<void (*)(void *)>(join(functionHigh, functionLow));
  function(reinterpret_cast<void *>(join(high, low)));
}

void Fiber::start(char *stackBottom, size_t stackBytes, Entry function,
                  void *functionArgument) {
  bottom = stackBottom;
  size = stackBytes;
  entry = function;
  argument = functionArgument;
  fakeStack = nullptr;
  getcontext(&context);
  context.uc_stack.ss_sp = stackBottom;
  context.uc_stack.ss_size = stackBytes;
  context.uc_link = nullptr;
  auto self = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(this));
  auto first =
      static_cast<uint64_t>(reinterpret_cast<uintptr_t>(&Fiber::entryPoint));
  makecontext(&context, reinterpret_cast<void (*)()>(splitEntry), 4,
              unsigned(self >> 32), unsigned(self), unsigned(first >> 32),
              unsigned(first));
}

#endif

void Fiber::entryPoint(void *self) {
  auto *fiber = static_cast<Fiber *>(self);
#if DLC_FIBER_ASAN
  // The bounds of the OS thread's own stack are learnt when it is first left.
  const void *leftBottom = nullptr;
  size_t leftSize = 0;
  __sanitizer_finish_switch_fiber(nullptr, &leftBottom, &leftSize);
  fiber->resumedBy->bottom =
      const_cast<char *>(static_cast<const char *>(leftBottom));
  fiber->resumedBy->size = leftSize;
#endif
  fiber->entry(fiber->argument);
  __builtin_unreachable();
}

void Fiber::switchTo(Fiber &from, Fiber &to, bool last) {
  to.resumedBy = &from;
#if DLC_FIBER_ASAN
  __sanitizer_start_switch_fiber(last ? nullptr : &from.fakeStack, to.bottom,
                                 to.size);
#else
  (void)last;
#endif
#if defined(__x86_64__)
  dlc_emu_switch_stack(&from.stackPointer, to.stackPointer);
#else
  swapcontext(&from.context, &to.context);
#endif
#if DLC_FIBER_ASAN
  __sanitizer_finish_switch_fiber(from.fakeStack, nullptr, nullptr);
#endif
}

} // namespace dlc::emu
