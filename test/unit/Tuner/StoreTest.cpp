// Records and the store: one schema in two encodings, nothing lost or torn.
#include "TunerTestUtils.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

#include <csignal>
#include <poll.h>
#include <random>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace dlc::tuner;
using namespace dlc::test;

TEST(Record, JsonRoundTrip) {
  Record record = makeRecord(3, 0.8);
  record.drift = 0.25;
  auto parsed = Record::parseJson(record.toJson());
  ASSERT_TRUE(bool(parsed)) << llvm::toString(parsed.takeError());
  EXPECT_EQ(parsed->toJson(), record.toJson());
  EXPECT_EQ(parsed->key(), record.key());
  EXPECT_NEAR(parsed->ratio(), 0.8, 1e-9);
}

// Faster where it was measured and slower at another size: none.
TEST(Record, SlowerElsewhere) {
  Record record = makeRecord(3, 0.8);
  record.elsewhere = {0.9, 1.2};
  Record parsed = llvm::cantFail(Record::parseJson(record.toJson()));
  EXPECT_EQ(parsed.elsewhere, record.elsewhere);
  EXPECT_NEAR(parsed.worstRatio(), 1.2, 1e-9);
  EXPECT_FALSE(findBest({parsed}));
  parsed.elsewhere = {0.9, 1.04}; // noise
  EXPECT_NEAR(parsed.worstRatio(), 0.8, 1e-9);
  EXPECT_TRUE(findBest({parsed}));
  std::string text = makeRecord(3, 0.8).toJson();
  EXPECT_EQ(text.find("elsewhere"), std::string::npos);
  EXPECT_TRUE(llvm::cantFail(Record::parseJson(text)).elsewhere.empty());
}

TEST(Record, KeyDependsOnWhatIsMeasured) {
  Record a = makeRecord(1, 0.5), b = a;
  b.samples = {1, 2, 3}; // another time of the same trial
  EXPECT_EQ(a.key(), b.key());
  b.run = "other";
  EXPECT_NE(a.key(), b.key());
  b = a;
  b.attempt = 1;
  EXPECT_NE(a.key(), b.key());
}

TEST(Record, RefusesInWords) {
  std::string good = makeRecord(1, 0.5).toJson();
  auto refusal = [](std::string text) {
    auto record = Record::parseJson(text);
    return record ? std::string("accepted")
                  : llvm::toString(record.takeError());
  };
  auto change = [&](const std::string &from, const std::string &to) {
    std::string text = good;
    size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  EXPECT_EQ(refusal(good), "accepted");
  EXPECT_NE(refusal(change("\"schema_version\":1", "\"schema_version\":2"))
                .find("has schema version 2, this dlc reads version 1"),
            std::string::npos);
  EXPECT_NE(refusal(change("\"status\":\"ok\"", "\"status\":\"fine\""))
                .find("'fine' is no status"),
            std::string::npos);
  EXPECT_NE(refusal(change("\"samples_ns\":[", "\"samples_ns\":[-1,"))
                .find("samples_ns"),
            std::string::npos);
  EXPECT_NE(refusal(change("\"run\":", "\"ran\":")).find("'run' is missing"),
            std::string::npos);
  EXPECT_NE(refusal(good.substr(0, good.size() / 2)), "accepted");
}

TEST(Record, FindBest) {
  std::vector<Record> records{makeRecord(1, 0.7), makeRecord(2, 0.6),
                              makeRecord(3, 0.9)};
  ASSERT_TRUE(findBest(records));
  EXPECT_EQ(findBest(records)->schedule, records[1].schedule);
  // Measured again it was not so good.
  Record again = records[1];
  again.attempt = 1;
  again.samples = {990};
  records.push_back(again);
  EXPECT_FALSE(findBest(records));
  Record other = records[0];
  other.attempt = 1;
  records.push_back(other);
  EXPECT_EQ(findBest(records)->schedule, records[0].schedule);
  // A lucky sample makes no schedule good.
  Record lucky = makeRecord(7, 0.98);
  lucky.reference.assign(6, 1000);
  lucky.samples.assign(5, 980);
  lucky.samples.push_back(300);
  EXPECT_LT(lucky.ratio(), 0.5);
  EXPECT_GT(lucky.medianRatio(), 0.9);
  EXPECT_FALSE(findBest(lucky));
  // A schedule that was wrong once is never chosen.
  Record wrong = records[0];
  wrong.run = "x";
  wrong.status = Status::Wrong;
  wrong.samples.clear();
  wrong.reference.clear();
  records.push_back(wrong);
  EXPECT_FALSE(findBest(records));
  // One whose reference took far longer than in other trials of the run was
  // measured while others had the machine; of another run it may be so slow.
  std::vector<Record> mixed{makeRecord(1, 0.9), makeRecord(2, 0.95),
                            makeRecord(3, 0.9), makeRecord(4, 0.95)};
  mixed[3].reference = {4000, 4050};
  EXPECT_EQ(withoutDisturbed(mixed).size(), 3u);
  EXPECT_NE(findBest(mixed)->schedule, mixed[3].schedule);
  mixed[3].run = "another";
  EXPECT_EQ(withoutDisturbed(mixed).size(), 4u);
  EXPECT_EQ(findBest(mixed)->schedule, mixed[3].schedule);
  // Nor one of another code generator, nor a gain within the noise.
  Record old = makeRecord(1, 0.5);
  ++old.codegen;
  EXPECT_FALSE(findBest(old));
  EXPECT_FALSE(findBest(makeRecord(1, 0.99)));
}

// Each nest has its number: where one makes other code, records of the others
// stay.
TEST(Record, CodegenVersionsOfNests) {
  const char *x86 = "{\"arch\":\"x86\"}", *cuda = "{\"arch\":\"cuda\"}";
  const char *map = "{\"nest\":\"map\"}",
             *window = "{\"nest\":\"map\",\"window\":true}",
             *product = "{\"nest\":\"contraction\"}";
  EXPECT_NE(codegenVersionOf(map, x86), codegenVersionOf(window, x86));
  EXPECT_NE(codegenVersionOf(map, x86), codegenVersionOf(product, x86));
  EXPECT_EQ(codegenVersionOf(product, cuda), kCudaCodegenVersion);
  Record record = makeRecord(1, 0.5);
  EXPECT_TRUE(record.isCurrent());
  record.codegen = 0;
  EXPECT_FALSE(record.isCurrent());
}

// An estimate counts where it is asked for and nothing was measured, and for
// less.
TEST(Record, FindBestOfEstimates) {
  Record estimate = makeRecord(1, 0.7);
  estimate.clock = kStaticClock.str();
  auto best = [](llvm::ArrayRef<Record> records) {
    return findBest(records, {.takesEstimates = true});
  };
  EXPECT_FALSE(findBest(estimate));
  ASSERT_TRUE(best(estimate));
  Record modest = makeRecord(2, 0.92), measured = modest;
  modest.clock = kStaticClock.str();
  EXPECT_FALSE(best(modest));
  EXPECT_TRUE(best(measured));
  auto found = best({estimate, measured});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->schedule, measured.schedule);
}

TEST(Store, AddSelectExportMerge) {
  TemporaryFolder folder;
  auto store = Store::open(folder / "a.db", true);
  ASSERT_TRUE(bool(store)) << llvm::toString(store.takeError());
  std::vector<Record> records;
  for (int i = 0; i < 10; ++i)
    records.push_back(makeRecord(i, 0.5 + i * 0.05));
  EXPECT_EQ(llvm::cantFail((*store)->add(records)), 10u);
  EXPECT_EQ(llvm::cantFail((*store)->add(records)), 0u);
  auto all = llvm::cantFail((*store)->select());
  ASSERT_EQ(all.size(), 10u);
  EXPECT_EQ(all[4].toJson(), records[4].toJson());
  RecordFilter filter;
  filter.workload = records[0].workload;
  filter.target = records[0].target;
  EXPECT_EQ(llvm::cantFail((*store)->select(filter)).size(), 10u);
  filter.workload = "{}";
  EXPECT_EQ(llvm::cantFail((*store)->select(filter)).size(), 0u);

  // The order of records does not show in the file.
  llvm::cantFail(writeJsonLines(all, folder / "a.jsonl"));
  std::reverse(all.begin(), all.end());
  llvm::cantFail(writeJsonLines(all, folder / "b.jsonl"));
  auto read = [](const std::string &path) {
    return llvm::cantFail(
               llvm::errorOrToExpected(llvm::MemoryBuffer::getFile(path)))
        ->getBuffer()
        .str();
  };
  EXPECT_EQ(read(folder / "a.jsonl"), read(folder / "b.jsonl"));
  auto back = readJsonLines(folder / "a.jsonl");
  ASSERT_TRUE(bool(back)) << llvm::toString(back.takeError());
  auto other = llvm::cantFail(Store::open(folder / "b.db", true));
  EXPECT_EQ(llvm::cantFail(other->add(*back)), 10u);
  EXPECT_EQ(llvm::cantFail(other->prune(4)), 6u);
  EXPECT_EQ(llvm::cantFail(other->select()).size(), 4u);
}

TEST(Store, RefusesOtherFiles) {
  TemporaryFolder folder;
  std::string path = folder / "a.db";
  EXPECT_TRUE(errorOf(Store::open(path, false)).find("cannot be opened") !=
              std::string::npos);
  llvm::cantFail(Store::open(path, true));
  sqlite3 *db = nullptr;
  sqlite3_open(path.c_str(), &db);
  sqlite3_exec(db, "UPDATE meta SET value = '7'", nullptr, nullptr, nullptr);
  sqlite3_close(db);
  EXPECT_NE(errorOf(Store::open(path, true)).find("schema version 7"),
            std::string::npos);
  std::string text = folder / "text.db";
  std::error_code code;
  llvm::raw_fd_ostream(text, code) << std::string(5000, 'x');
  EXPECT_NE(errorOf(Store::open(text, false)).find("is no tuning store"),
            std::string::npos);
  llvm::raw_fd_ostream(folder / "torn.jsonl", code)
      << makeRecord(1, 0.5).toJson() << "\n"
      << makeRecord(2, 0.5).toJson().substr(0, 80);
  EXPECT_NE(errorOf(readJsonLines(folder / "torn.jsonl")).find(".jsonl:2: "),
            std::string::npos);
}

// What a writer leaves that is killed before its first commit, and what a
// reader may find beside one that just begins, is a store without records.
TEST(Store, BeforeTheFirstCommit) {
  TemporaryFolder folder;
  std::string path = folder / "a.db";
  std::error_code code;
  llvm::raw_fd_ostream(path, code).flush();
  EXPECT_TRUE(llvm::cantFail(llvm::cantFail(Store::open(path, false))->select())
                  .empty());
  std::string other = folder / "b.db";
  sqlite3 *db = nullptr;
  sqlite3_open(other.c_str(), &db);
  sqlite3_exec(db, "PRAGMA journal_mode=WAL", nullptr, nullptr, nullptr);
  sqlite3_close(db);
  auto store = llvm::cantFail(Store::open(other, false));
  EXPECT_EQ(llvm::cantFail(store->add({makeRecord(1, 0.5)})), 1u);
}

// Two writers are killed at random instants, again and again. What a writer
// said it had added is there, and every record is whole.
TEST(Store, KilledWritersLoseNothing) {
  TemporaryFolder folder;
  std::string path = folder / "a.db";
  llvm::cantFail(Store::open(path, true));
  std::mt19937 random(1);
  unsigned kills = std::getenv("DLC_TEST_FULL") ? 100 : 8;
  std::vector<std::vector<int>> confirmed(2);
  int next = 0;
  for (unsigned round = 0; round < kills; round += 2) {
    pid_t writers[2];
    int pipes[2][2];
    for (int w = 0; w < 2; ++w) {
      ASSERT_EQ(pipe(pipes[w]), 0);
      int first = next;
      next += 100000;
      writers[w] = fork();
      if (writers[w] == 0) {
        auto store = Store::open(path, true);
        if (!store)
          _exit(1);
        for (int i = first;; ++i) {
          if (!(*store)->add(makeRecord(i, 0.5)))
            _exit(1);
          if (write(pipes[w][1], &i, sizeof i) != sizeof i)
            _exit(1);
        }
      }
      close(pipes[w][1]);
    }
    // The first ones have time to add something, however busy the machine is.
    for (int w = 0; w < 2 && round == 0; ++w) {
      pollfd wait{pipes[w][0], POLLIN, 0};
      EXPECT_EQ(poll(&wait, 1, 60000), 1);
    }
    usleep(random() % 130000);
    for (int w = 0; w < 2; ++w) {
      kill(writers[w], SIGKILL);
      int status = 0;
      waitpid(writers[w], &status, 0);
      EXPECT_TRUE(WIFSIGNALED(status)) << "the writer failed";
      int i;
      while (read(pipes[w][0], &i, sizeof i) == sizeof i)
        confirmed[w].push_back(i);
      close(pipes[w][0]);
    }
  }
  EXPECT_FALSE(confirmed[0].empty());
  EXPECT_FALSE(confirmed[1].empty());
  auto store = llvm::cantFail(Store::open(path, false));
  auto records = store->select();
  ASSERT_TRUE(bool(records)) << llvm::toString(records.takeError());
  std::set<std::string> keys;
  for (const Record &record : *records)
    keys.insert(record.key());
  EXPECT_EQ(keys.size(), records->size());
  for (auto &writer : confirmed)
    for (int i : writer)
      EXPECT_TRUE(keys.count(makeRecord(i, 0.5).key())) << i;
}
