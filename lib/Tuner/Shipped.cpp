// Where the shipped database lies.
#include "dlc/Tuner/Shipped.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

#include <algorithm>
#include <dlfcn.h>

using namespace dlc::tuner;
using llvm::Expected;
using llvm::StringRef;
namespace fs = llvm::sys::fs;
namespace path = llvm::sys::path;

std::string dlc::tuner::findShippedFolder(StringRef arch) {
  static int here;
  std::vector<std::string> starts{fs::getMainExecutable("dlc", &here)};
  Dl_info self;
  if (dladdr(&here, &self) && self.dli_fname)
    starts.push_back(self.dli_fname);
  for (StringRef folder : starts)
    // A program lies in bin/, a Python extension a few folders deeper.
    for (int level = 0; level < 5; ++level) {
      folder = path::parent_path(folder);
      if (folder.empty())
        break;
      llvm::SmallString<256> found(folder);
      path::append(found, "lib", "dlc", "tuning_db", arch);
      if (fs::is_directory(found))
        return found.str().str();
    }
  return "";
}

Expected<std::vector<Record>> dlc::tuner::readFolder(StringRef folder) {
  std::vector<std::string> files;
  std::error_code code;
  for (fs::recursive_directory_iterator it(folder, code), end;
       it != end && !code; it.increment(code))
    if (path::extension(it->path()) == ".jsonl")
      files.push_back(it->path());
  if (code)
    return llvm::createStringError(folder + ": " + code.message());
  std::sort(files.begin(), files.end());
  std::vector<Record> records;
  for (const std::string &file : files) {
    Expected<std::vector<Record>> some = readJsonLines(file);
    if (!some)
      return some.takeError();
    records.insert(records.end(), some->begin(), some->end());
  }
  return records;
}

std::string dlc::tuner::modelFileName(StringRef family,
                                      CostModel::Label label) {
  return (family +
          (label == CostModel::Label::Time ? ".time.json" : ".model.json"))
      .str();
}

Expected<std::optional<CostModel>>
dlc::tuner::loadShippedModel(StringRef arch, StringRef family,
                             CostModel::Label label) {
  llvm::SmallString<256> file(findShippedFolder(arch));
  path::append(file, modelFileName(family, label));
  if (!fs::exists(file))
    return std::nullopt;
  Expected<CostModel> model = CostModel::load(file);
  if (!model)
    return model.takeError();
  if (model->getLabel() != label || model->getFamily() != family)
    return llvm::createStringError(file + ": is the model of something else "
                                          "than its name says");
  return std::optional<CostModel>(std::move(*model));
}
