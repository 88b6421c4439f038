// JSON with the path to every value, so that a message says where it is wrong,
// and what would work. Problems are collected: a manifest is read to its end.
#ifndef DLC_LIB_LIBRARY_READER_H
#define DLC_LIB_LIBRARY_READER_H

#include "dlc/Library/Library.h"

#include <nlohmann/json.hpp>

namespace dlc::library {

using Json = nlohmann::ordered_json;

class Reader {
public:
  Reader(const Json &value, std::string path,
         std::vector<ManifestProblem> &problems)
      : value(&value), path(std::move(path)), problems(&problems) {}

  const Json &get() const { return *value; }
  const std::string &getPath() const { return path; }

  void fail(const std::string &reason) const {
    problems->push_back({path, reason});
  }
  void fail(llvm::StringRef key, const std::string &reason) const {
    problems->push_back({path + "." + key.str(), reason});
  }
  size_t countProblems() const { return problems->size(); }

  /// An object whose keys are among `known`.
  bool isObject(llvm::ArrayRef<llvm::StringRef> known) const;
  bool has(llvm::StringRef key) const {
    return value->is_object() && value->contains(key.str());
  }
  Reader at(llvm::StringRef key) const {
    return Reader(value->at(key.str()), path + "." + key.str(), *problems);
  }
  Reader at(size_t index) const {
    return Reader(value->at(index), path + "[" + std::to_string(index) + "]",
                  *problems);
  }

  /// Values by key; `otherwise` where there is none, or a wrong one, which is
  /// a problem. `allowed`, when not empty, lists all good ones.
  std::string getString(llvm::StringRef key, llvm::StringRef otherwise,
                        llvm::ArrayRef<llvm::StringRef> allowed = {}) const;
  int64_t getInt(llvm::StringRef key, int64_t otherwise, int64_t low,
                 int64_t high) const;
  double getNumber(llvm::StringRef key, double otherwise) const;
  bool getBool(llvm::StringRef key, bool otherwise) const;
  /// A list of texts, or one text for a list of one.
  std::vector<std::string>
  getStrings(llvm::StringRef key, std::vector<std::string> otherwise,
             llvm::ArrayRef<llvm::StringRef> allowed = {}) const;
  std::vector<int64_t> getInts(llvm::StringRef key,
                               std::vector<int64_t> otherwise, int64_t low,
                               int64_t high) const;
  /// A size, "low..high@typical", "@typical" or "any".
  Range getRange() const;

private:
  bool check(llvm::StringRef key, llvm::StringRef text,
             llvm::ArrayRef<llvm::StringRef> allowed) const;

  const Json *value;
  std::string path;
  std::vector<ManifestProblem> *problems;
};

/// "; did you mean 'matmul'?" when one of `names` is near, else the list.
std::string suggest(llvm::StringRef name,
                    llvm::ArrayRef<llvm::StringRef> names);

} // namespace dlc::library

#endif // DLC_LIB_LIBRARY_READER_H
