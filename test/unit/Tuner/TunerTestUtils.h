// Records of no machine, and folders that go away.
#ifndef DLC_TEST_UNIT_TUNER_TUNERTESTUTILS_H
#define DLC_TEST_UNIT_TUNER_TUNERTESTUTILS_H

#include "dlc/Tuner/Features.h"
#include "dlc/Tuner/Model.h"
#include "dlc/Tuner/Store.h"

#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <set>

namespace dlc::test {

class TemporaryFolder {
public:
  TemporaryFolder() {
    std::string name =
        (std::filesystem::temp_directory_path() / "dlc-tuner-XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
  std::string operator/(const std::string &name) const {
    return (path / name).string();
  }

private:
  std::filesystem::path path;
};

/// A trial of schedule number `i`, `ratio` times the default's time.
inline tuner::Record makeRecord(int i, double ratio, int64_t rows = 64) {
  tuner::Record record;
  record.target = tuner::TargetFacts{"x86", "none"}.toJson();
  tuner::ContractionFacts facts;
  facts.rows = rows;
  facts.columns = facts.depth = 256;
  facts.lhsRow = facts.rhsDepth = 256;
  record.workload = facts.toJson();
  record.schedule = tuner::scheduleJson("contraction", {{"tile_rows", i}});
  record.samples = {1000 * ratio, 1100 * ratio};
  record.reference = {1000, 1050};
  record.clock = "thread_cpu";
  record.run = "test";
  record.codegen = tuner::codegenVersionOf(record.workload, record.target);
  record.compiler = "0";
  return record;
}

template <typename T>
std::string errorOf(llvm::Expected<T> value) {
  return value ? std::string("no error") : llvm::toString(value.takeError());
}

} // namespace dlc::test

#endif // DLC_TEST_UNIT_TUNER_TUNERTESTUTILS_H
