// Compiles a kernel with the loop nests, for several instruction sets of this
// machine's family, runs it between guard bytes and compares with the
// interpreter.
#ifndef DLC_TEST_UNIT_CPUNESTS_NESTTEST_H
#define DLC_TEST_UNIT_CPUNESTS_NESTTEST_H

#include "../Codegen/KernelHarness.h"

#include "dlc/Codegen/CPU/LoopNest.h"
#include "dlc/Interpreter/Interpreter.h"

#include "gtest/gtest.h"

#include <random>
#include <sys/mman.h>
#include <unistd.h>

namespace dlc::test {

/// Bytes that end (or begin) at a page which must not be touched: a read
/// outside is a crash.
class PageBuffer {
public:
  PageBuffer(const char *bytes, size_t size, bool atEnd) {
    size_t page = sysconf(_SC_PAGESIZE);
    size_t inner = (size + page - 1) / page * page;
    all = inner + 2 * page;
    memory = static_cast<char *>(
        mmap(nullptr, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory == MAP_FAILED)
      std::abort();
    if (inner)
      mprotect(memory + page, inner, PROT_READ | PROT_WRITE);
    start = memory + page + (atEnd ? inner - size : 0);
    if (size)
      std::memcpy(start, bytes, size);
  }
  ~PageBuffer() { munmap(memory, all); }
  PageBuffer(const PageBuffer &) = delete;
  char *data() { return start; }

private:
  char *memory, *start;
  size_t all;
};

/// One operator: its text pieces and how its inputs are filled.
struct OpCase {
  std::string op;         ///< "add"
  std::string attributes; ///< "axis = 1 : i64"
  std::vector<std::string> types;
  std::string result;
  std::vector<std::vector<int64_t>> shapes; ///< of the operands, concrete
  std::vector<int64_t> symbols;             ///< of the kernel
  double tolerance = 2e-6;                  ///< relative, of floats
  bool specials = false;                    ///< NaN, infinities, zeros too
  int64_t low = -4, high = 4;               ///< of integers
};

struct NestVariant {
  std::string target = "x86:cpu=host";
  LoopSchedule schedule;
  bool strict = false;
  /// Emit as the compiler does, with the nest that it must choose; empty: a
  /// loop nest.
  std::string nest{};
};

class NestTest : public ::testing::Test {
protected:
  NestTest() { setUp(context); }

  /// A case in several variants (DLC_TEST_FULL: in all).
  void check(const OpCase &c);
  /// One variant. Returns false, with failures recorded, on a difference.
  bool checkVariant(graph::KernelOp kernel, const OpCase &c,
                    llvm::ArrayRef<interp::Tensor> inputs,
                    llvm::ArrayRef<interp::Tensor> expected,
                    const NestVariant &variant);
  /// Runs a kernel with a result in the place of an operand, tasks forwards and
  /// backwards. Says how the results differ from `expected`; "" if they do not.
  static std::string runInPlace(CpuKernel &code, const CpuTarget &target,
                                graph::InPlacePair pair, const OpCase &c,
                                llvm::ArrayRef<interp::Tensor> inputs,
                                llvm::ArrayRef<interp::Tensor> expected,
                                bool bitExact);
  /// Emits as when every operand may be overwritten, and does that for each
  /// pair that the nest claims and Check admits.
  bool checkInPlace(graph::KernelOp kernel, const OpCase &c,
                    llvm::ArrayRef<interp::Tensor> inputs,
                    llvm::ArrayRef<interp::Tensor> expected,
                    const NestVariant &variant);
  mlir::FailureOr<CpuKernel> emit(graph::KernelOp kernel,
                                  const CpuTarget &target,
                                  const CpuCodegenOptions &options,
                                  const NestVariant &variant);
  /// A kernel given as text, on operands of these shapes: every target, strict
  /// and not, one point at a time, and cut into many tasks. With `nest`, as the
  /// compiler emits it, and the nest must be that one.
  void checkText(const std::string &text,
                 const std::vector<std::vector<int64_t>> &shapes,
                 const std::vector<int64_t> &symbols = {},
                 const std::string &nest = "");
  graph::KernelOp build(const OpCase &c);
  interp::Tensor random(mlir::Type element, llvm::ArrayRef<int64_t> shape,
                        const OpCase &c);
  /// Largest index at which `actual` is not `expected`, described; empty if
  /// none.
  static std::string difference(const interp::Tensor &expected,
                                const char *actual, double tolerance,
                                bool bitExact);

  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::mt19937 generator{4711};
  std::vector<NestVariant> variants; ///< empty: all
  bool exactWhenStrict = true;
  size_t numChecked = 0, numInPlace = 0;
};

/// The instruction sets that this machine can run.
std::vector<std::string> runnableTargets();

/// The seeds of a test with random cases, [first, end): `count` from 0, or what
/// DLC_TEST_FIRST and DLC_TEST_COUNT say.
struct Seeds {
  explicit Seeds(unsigned defaultCount)
      : first(fromEnvironment("DLC_TEST_FIRST", 0)),
        count(fromEnvironment("DLC_TEST_COUNT", defaultCount)),
        end(first + count) {}
  unsigned first, count, end;

private:
  static unsigned fromEnvironment(const char *name, unsigned otherwise) {
    const char *text = getenv(name);
    return text ? unsigned(std::atoi(text)) : otherwise;
  }
};

} // namespace dlc::test

#endif // DLC_TEST_UNIT_CPUNESTS_NESTTEST_H
