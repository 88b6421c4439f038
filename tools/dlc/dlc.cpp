// dlc: the compiler's command line.
#include "dlc/Driver/Compiler.h"
#include "dlc/Driver/Crash.h"
#include "dlc/Frontend/ONNX/ConvertToGraph.h"

#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

using namespace dlc;

// True when the errors are wanted as JSON, whatever else the command line says.
static bool wantsJson(llvm::ArrayRef<const char *> arguments) {
  for (llvm::StringRef argument : arguments)
    if (argument.ltrim('-') == "diagnostics=json")
      return true;
  return false;
}

// "Cast  own, narrow  no strings": name, what becomes of it, its limits.
static void printOperators(llvm::raw_ostream &os) {
  for (const OperatorSupport &op : listOperators()) {
    std::string how = op.how == OperatorSupport::Own     ? "own"
                      : op.how == OperatorSupport::Shape ? "sizes"
                      : op.how == OperatorSupport::Body  ? "function body"
                                                         : "refused";
    how += op.narrow ? ", narrow" : "";
    os << llvm::left_justify(op.name, 45) << ' ';
    if (op.limits.empty())
      os << how << '\n';
    else
      os << llvm::left_justify(how, 15) << op.limits << '\n';
  }
}

static llvm::Error run(const CommandLine &line) {
  switch (line.action) {
  case CommandLine::Action::Help:
    printHelp(llvm::outs());
    return llvm::Error::success();
  case CommandLine::Action::Version:
    llvm::outs() << "dlc " << getVersion() << "\n";
    return llvm::Error::success();
  case CommandLine::Action::ListTargets: {
    llvm::Expected<std::string> text = describeTargets();
    if (!text)
      return text.takeError();
    llvm::outs() << *text;
    return llvm::Error::success();
  }
  case CommandLine::Action::ListOps:
    printOperators(llvm::outs());
    return llvm::Error::success();
  case CommandLine::Action::Compile:
    return compileModel(line.options).takeError();
  }
  llvm_unreachable("unknown action");
}

int main(int argc, char **argv) {
  installCrashHandler(argc, argv);
  llvm::ArrayRef<const char *> arguments(argv + 1, argc - 1);
  llvm::Expected<CommandLine> line = parseCommandLine(arguments);
  llvm::Error error = line ? run(*line) : line.takeError();
  if (!error)
    return static_cast<int>(ExitCode::Ok);
  return printError(llvm::errs(),
                    toCompileError(std::move(error), ExitCode::Internal),
                    wantsJson(arguments), "dlc");
}
