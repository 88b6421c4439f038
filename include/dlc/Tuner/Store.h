// The working store of records: SQLite with a write-ahead log. A record is
// committed before `add` returns; whoever is killed loses nothing that was
// added. Several processes may use one store: writers take turns.
#ifndef DLC_TUNER_STORE_H
#define DLC_TUNER_STORE_H

#include "dlc/Tuner/Record.h"

#include <memory>

struct sqlite3;

namespace dlc::tuner {

/// Which records; empty fields mean any.
struct RecordFilter {
  std::string target, workload; ///< canonical JSON
  std::string run;
};

class Store {
public:
  /// Opens a store, or makes one when `create`. Refuses a file of another
  /// schema version, and one that is no store, in words.
  static llvm::Expected<std::unique_ptr<Store>> open(llvm::StringRef path,
                                                     bool create);
  ~Store();
  Store(const Store &) = delete;

  /// Adds those whose key is not there yet, all or none. Returns how many.
  llvm::Expected<unsigned> add(llvm::ArrayRef<Record> records);
  /// In the order they were added.
  llvm::Expected<std::vector<Record>> select(const RecordFilter &filter = {});
  /// Removes all but the `keep` fastest trials of every target and workload;
  /// the default's and failed ones of the current code generator stay. Returns
  /// how many went.
  llvm::Expected<unsigned> prune(unsigned keep);

  llvm::StringRef getPath() const { return path; }

private:
  Store(sqlite3 *db, llvm::StringRef path) : db(db), path(path) {}
  llvm::Error execute(const char *sql);
  llvm::Error fail(const llvm::Twine &what);
  llvm::Error insert(const Record &record, unsigned &added);

  sqlite3 *db;
  std::string path;
};

/// $DLC_TUNING_DB, or dlc/tuning.db in the user's data folder.
std::string getDefaultStorePath();

} // namespace dlc::tuner

#endif // DLC_TUNER_STORE_H
