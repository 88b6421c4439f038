// Kernels written as LLVM IR text, and expectations on what a launch reports.
#ifndef DLC_TEST_UNIT_EMULATOR_EMULATORTESTUTILS_H
#define DLC_TEST_UNIT_EMULATOR_EMULATORTESTUTILS_H

#include "dlc/Emulator/Emulator.h"

#include "gtest/gtest.h"

#include <string>
#include <vector>

namespace dlc::test {

/// Declarations of the intrinsics the tests use, to go before a kernel.
extern const char *const kIntrinsics;

/// A loaded module, or the error text of loading it.
struct Loaded {
  std::unique_ptr<EmulatedModule> module;
  std::string error;
};
Loaded load(const std::string &ir, EmulatorOptions options = {});

/// The same for tests that expect it to load.
std::unique_ptr<EmulatedModule> loadOrFail(const std::string &ir,
                                           EmulatorOptions options = {});

template <typename T>
EmulatedBuffer buffer(std::vector<T> &data, std::string name,
                      bool writable = true) {
  return {data.data(), data.size() * sizeof(T), std::move(name), writable};
}

/// `part` so often, with commas between and numbers from `first` on for its #.
std::string list(const std::string &part, unsigned count, unsigned first = 0);

/// Empty for success.
std::string errorOf(llvm::Error error);

/// True, else a failure that shows both texts.
::testing::AssertionResult contains(const std::string &text,
                                    const std::string &part);

} // namespace dlc::test

#endif // DLC_TEST_UNIT_EMULATOR_EMULATORTESTUTILS_H
