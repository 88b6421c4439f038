// What records of libraries are for: lookup with permission, and open gaps.
#include "dlc/Tuner/Libraries.h"

#include "TunerTestUtils.h"
#include "dlc/Tuner/Experience.h"

using namespace dlc;
using namespace dlc::test;
using namespace dlc::tuner;

static Record makeLibraryRecord(double ratio, int64_t rows = 64) {
  Record record = makeRecord(0, ratio, rows);
  record.schedule = scheduleJson("library", {{"onednn", 30201}, {"pieces", 2}});
  return record;
}

TEST(Libraries, AreTakenOnlyWithPermission) {
  std::vector<Record> records = {makeRecord(1, 0.9), makeLibraryRecord(0.5)};
  EXPECT_TRUE(records[1].usesLibrary());
  EXPECT_FALSE(records[0].usesLibrary());
  ASSERT_TRUE(findBest(records));
  EXPECT_EQ(findBest(records)->schedule, records[0].schedule);
  ASSERT_TRUE(findBest(records, {.takesLibraries = true}));
  EXPECT_EQ(findBest(records, {.takesLibraries = true})->schedule,
            records[1].schedule);
  // One that was ever wrong is none.
  records.push_back(makeLibraryRecord(0.5));
  records.back().run = "another";
  records.back().status = Status::Wrong;
  EXPECT_EQ(findBest(records, {.takesLibraries = true})->schedule,
            records[0].schedule);
}

TEST(Libraries, AreNoExperience) {
  std::vector<Record> records = {makeLibraryRecord(0.5)};
  EXPECT_TRUE(
      findExperience(records, records[0].workload, records[0].target).empty());
  records.push_back(makeRecord(1, 0.9));
  EXPECT_EQ(
      findExperience(records, records[0].workload, records[0].target).size(),
      1u);
}

TEST(Libraries, GapsAreWhereTheyWin) {
  // Of 64 rows ours wins; of 128 it loses to 0.9 / 0.6, of 256 the default is
  // ours; 512 has no library.
  std::vector<Record> records = {
      makeRecord(1, 0.5, 64),       makeLibraryRecord(0.6, 64),
      makeRecord(1, 0.9, 128),      makeLibraryRecord(0.6, 128),
      makeLibraryRecord(0.5, 256),  makeRecord(1, 0.4, 512),
      makeLibraryRecord(0.99, 1024)};
  llvm::Expected<Gaps> found = findGaps(records);
  ASSERT_TRUE(bool(found)) << llvm::toString(found.takeError());
  EXPECT_EQ(found->compared, 4u);
  ASSERT_EQ(found->gaps.size(), 2u);
  EXPECT_NEAR(found->gaps[0].ours, 1 / 0.5238, 1e-2);
  EXPECT_NEAR(found->gaps[1].ours, 0.9 / 0.6, 1e-9);
  EXPECT_NE(found->gaps[1].kernel.find("128"), std::string::npos);
  EXPECT_EQ(found->gaps[0].library, "oneDNN 3.2.1");
  // Older code is no comparison.
  for (Record &record : records)
    --record.codegen;
  EXPECT_EQ(llvm::cantFail(findGaps(records)).compared, 0u);
}
