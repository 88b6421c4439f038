// Mistakes in a command line, in the same words for every program.
#include "dlc/Driver/CommandLine.h"

#include "llvm/Option/ArgList.h"
#include "llvm/Option/OptTable.h"

using namespace dlc;
using namespace llvm::opt;
using llvm::Error;

Error dlc::usage(const llvm::Twine &text) {
  return makeError(ExitCode::Usage, text);
}

Error dlc::checkSpelling(const OptTable &table, const InputArgList &args,
                         unsigned unknown) {
  for (const Arg *arg : args.filtered(unknown)) {
    std::string nearest, spelling = arg->getAsString(args);
    if (table.findNearest(spelling, nearest) <= 2)
      return usage("unknown flag '" + spelling + "'; did you mean '" + nearest +
                   "'?");
    return usage("unknown flag '" + spelling + "'; -help lists the flags");
  }
  return Error::success();
}
