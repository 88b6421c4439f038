// The store over SQLite's C interface.
#include "dlc/Tuner/Store.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <sqlite3.h>

using namespace dlc::tuner;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

// Writers wait for each other this long; a transaction takes milliseconds.
static constexpr int kBusyMilliseconds = 60000;

static constexpr const char *kSchema = R"(
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS target(hash TEXT PRIMARY KEY, json TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS workload(hash TEXT PRIMARY KEY, json TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS schedule(hash TEXT PRIMARY KEY, json TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trial(
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,
  target TEXT NOT NULL REFERENCES target(hash),
  workload TEXT NOT NULL REFERENCES workload(hash),
  schedule TEXT NOT NULL REFERENCES schedule(hash),
  run TEXT NOT NULL, status TEXT NOT NULL, json TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS trial_by_workload ON trial(workload, target);
)";

Error Store::fail(const llvm::Twine &what) {
  return llvm::createStringError(path + ": " + what + ": " +
                                 sqlite3_errmsg(db));
}

Error Store::execute(const char *sql) {
  if (sqlite3_exec(db, sql, nullptr, nullptr, nullptr) != SQLITE_OK)
    return fail("the store");
  return Error::success();
}

namespace {
/// A prepared statement.
class Statement {
public:
  Statement(sqlite3 *db, const char *sql) {
    sqlite3_prepare_v2(db, sql, -1, &statement, nullptr);
  }
  ~Statement() { sqlite3_finalize(statement); }
  Statement(const Statement &) = delete;

  void bind(int i, StringRef text) {
    sqlite3_bind_text(statement, i, text.data(), text.size(), SQLITE_TRANSIENT);
  }
  int step() { return statement ? sqlite3_step(statement) : int(SQLITE_ERROR); }
  StringRef text(int column) {
    return {
        reinterpret_cast<const char *>(sqlite3_column_text(statement, column)),
        size_t(sqlite3_column_bytes(statement, column))};
  }

private:
  sqlite3_stmt *statement = nullptr;
};
} // namespace

Expected<std::unique_ptr<Store>> Store::open(StringRef path, bool create) {
  if (create)
    if (StringRef folder = llvm::sys::path::parent_path(path); !folder.empty())
      if (std::error_code code = llvm::sys::fs::create_directories(folder))
        return llvm::createStringError(folder + ": " + code.message());
  sqlite3 *db = nullptr;
  int flags = create ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
                     : SQLITE_OPEN_READWRITE;
  int opened = sqlite3_open_v2(path.str().c_str(), &db, flags, nullptr);
  // Readers of a store that they may not write.
  if (opened != SQLITE_OK && !create) {
    sqlite3_close(db);
    opened =
        sqlite3_open_v2(path.str().c_str(), &db, SQLITE_OPEN_READONLY, nullptr);
  }
  std::unique_ptr<Store> store(new Store(db, path));
  if (opened != SQLITE_OK)
    return store->fail("cannot be opened");
  sqlite3_busy_timeout(db, kBusyMilliseconds);
  // FULL: a commit is on the disk before it is reported.
  if (create) {
    if (Error error = store->execute(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; BEGIN "
            "IMMEDIATE;"))
      return std::move(error);
    if (Error error = store->execute(kSchema))
      return std::move(error);
    Statement meta(db,
                   "INSERT OR IGNORE INTO meta VALUES('schema_version', ?)");
    meta.bind(1, std::to_string(kSchemaVersion));
    if (meta.step() != SQLITE_DONE)
      return store->fail("the store");
    if (Error error = store->execute("COMMIT"))
      return std::move(error);
  }
  // A writer that just began, or was killed then: there are no records yet.
  auto isBlank = [&] {
    Statement tables(db, "SELECT count(*) FROM sqlite_master");
    return tables.step() == SQLITE_ROW && tables.text(0) == "0";
  };
  if (!create && isBlank()) {
    store.reset();
    return open(path, /*create=*/true);
  }
  Statement version(db, "SELECT value FROM meta WHERE name='schema_version'");
  if (version.step() != SQLITE_ROW)
    return store->fail("is no tuning store");
  if (version.text(0) != std::to_string(kSchemaVersion))
    return llvm::createStringError(
        path + ": the store has schema version " + version.text(0) +
        ", this dlc reads version " + std::to_string(kSchemaVersion));
  return store;
}

Store::~Store() { sqlite3_close(db); }

Error Store::insert(const Record &record, unsigned &added) {
  std::string hashes[3];
  for (auto [i, entry] :
       llvm::enumerate(std::array{std::pair("target", &record.target),
                                  std::pair("workload", &record.workload),
                                  std::pair("schedule", &record.schedule)})) {
    auto &[table, json] = entry;
    hashes[i] = sha256(*json);
    std::string sql =
        std::string("INSERT OR IGNORE INTO ") + table + " VALUES(?, ?)";
    Statement statement(db, sql.c_str());
    statement.bind(1, hashes[i]);
    statement.bind(2, *json);
    if (statement.step() != SQLITE_DONE)
      return fail("the store");
  }
  Statement statement(
      db, "INSERT OR IGNORE INTO trial(key, target, workload, schedule, run, "
          "status, json) VALUES(?, ?, ?, ?, ?, ?, ?)");
  statement.bind(1, record.key());
  for (int i = 0; i < 3; ++i)
    statement.bind(2 + i, hashes[i]);
  statement.bind(5, record.run);
  statement.bind(6, toString(record.status));
  statement.bind(7, record.toJson());
  if (statement.step() != SQLITE_DONE)
    return fail("the store");
  added += sqlite3_changes(db);
  return Error::success();
}

Expected<unsigned> Store::add(llvm::ArrayRef<Record> records) {
  unsigned added = 0;
  if (Error error = execute("BEGIN IMMEDIATE"))
    return std::move(error);
  for (const Record &record : records)
    if (Error error = insert(record, added)) {
      llvm::consumeError(execute("ROLLBACK"));
      return std::move(error);
    }
  if (Error error = execute("COMMIT"))
    return std::move(error);
  return added;
}

Expected<std::vector<Record>> Store::select(const RecordFilter &filter) {
  Statement statement(
      db, "SELECT json FROM trial WHERE (?1 = '' OR target = ?1) AND "
          "(?2 = '' OR workload = ?2) AND (?3 = '' OR run = ?3) ORDER BY id");
  statement.bind(1, filter.target.empty() ? "" : sha256(filter.target));
  statement.bind(2, filter.workload.empty() ? "" : sha256(filter.workload));
  statement.bind(3, filter.run);
  std::vector<Record> records;
  int code;
  while ((code = statement.step()) == SQLITE_ROW) {
    Expected<Record> record = Record::parseJson(statement.text(0));
    if (!record)
      return llvm::createStringError(path + ": " +
                                     llvm::toString(record.takeError()));
    records.push_back(std::move(*record));
  }
  if (code != SQLITE_DONE)
    return fail("the store");
  return records;
}

Expected<unsigned> Store::prune(unsigned keep) {
  Expected<std::vector<Record>> all = select();
  if (!all)
    return all.takeError();
  std::map<std::string, std::vector<const Record *>> groups;
  std::vector<std::string> doomed;
  for (const Record &record : *all) {
    if (!record.isCurrent())
      doomed.push_back(record.key());
    else if (record.status == Status::Ok && !record.isDefault)
      groups[record.target + record.workload].push_back(&record);
  }
  for (auto &[name, records] : groups) {
    llvm::sort(records, [](const Record *a, const Record *b) {
      return a->ratio() != b->ratio() ? a->ratio() < b->ratio()
                                      : a->key() < b->key();
    });
    for (const Record *record : llvm::ArrayRef(records).drop_front(
             std::min<size_t>(keep, records.size())))
      doomed.push_back(record->key());
  }
  if (Error error = execute("BEGIN IMMEDIATE"))
    return std::move(error);
  for (const std::string &key : doomed) {
    Statement statement(db, "DELETE FROM trial WHERE key = ?");
    statement.bind(1, key);
    if (statement.step() != SQLITE_DONE) {
      Error error = fail("the store");
      llvm::consumeError(execute("ROLLBACK"));
      return std::move(error);
    }
  }
  if (Error error = execute("COMMIT"))
    return std::move(error);
  return doomed.size();
}

std::string dlc::tuner::getDefaultStorePath() {
  if (const char *path = std::getenv("DLC_TUNING_DB"))
    return path;
  llvm::SmallString<256> path;
  if (const char *data = std::getenv("XDG_DATA_HOME"); data && *data) {
    path = data;
  } else {
    llvm::sys::path::home_directory(path);
    llvm::sys::path::append(path, ".local", "share");
  }
  llvm::sys::path::append(path, "dlc", "tuning.db");
  return path.str().str();
}
